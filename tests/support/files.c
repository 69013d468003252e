#define _XOPEN_SOURCE 700
#include "support/files.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

void test_dir_make(char dir[256]) {
    const char *base = getenv("TMPDIR");
    (void)snprintf(dir, 256, "%s/embed-test-XXXXXX",
                   base != NULL && base[0] != '\0' ? base : "/tmp");
    if (mkdtemp(dir) == NULL)
        fail_msg("cannot make %s", dir);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

void test_dir_remove(const char *dir) {
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_path(const char *dir, const char *name) {
    static char paths[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    (void)snprintf(paths[turn], sizeof paths[turn], "%s/%s", dir, name);
    return paths[turn];
}

void test_write(const char *dir, const char *name, const void *data, long len) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    for (char *p = path + strlen(dir) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        (void)mkdir(path, 0777);
        *p = '/';
    }
    FILE *f = fopen(path, "wb");
    if (f == NULL)
        fail_msg("cannot write %s", path);
    const size_t n = len < 0 ? strlen(data) : (size_t)len;
    if (fwrite(data, 1, n, f) != n || fclose(f) != 0)
        fail_msg("cannot write %s", path);
}

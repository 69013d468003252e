#define _GNU_SOURCE /* memfd_create */
#include "fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#define LIMIT ((size_t)512 << 20)

static size_t in_use;

static void *limited_alloc(void *user, size_t size, size_t align) {
    void *block = NULL;
    (void)user;
    if (size > LIMIT - in_use || posix_memalign(&block, align, size ? size : 1))
        return NULL;
    in_use += size;
    return block;
}

static void limited_free(void *user, void *block, size_t size) {
    (void)user;
    FUZZ_CHECK(size <= in_use);
    in_use -= size;
    free(block);
}

emb_env fuzz_env(void) {
    const embed_allocator allocator = {NULL, limited_alloc, limited_free};
    emb_env env;
    FUZZ_CHECK(emb_env_init(&env, &allocator, NULL, NULL) == EMBED_OK);
    return env;
}

const char *fuzz_file(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    if (fd >= 0)
        close(fd);
    fd = memfd_create("fuzz", 0);
    FUZZ_CHECK(fd >= 0);
    for (size_t at = 0; at < size;) {
        const ssize_t n = write(fd, data + at, size - at);
        FUZZ_CHECK(n > 0);
        at += (size_t)n;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

void fuzz_check_status(embed_status status) {
    const char *name = embed_status_name(status);
    if (status == EMBED_OK)
        return;
    FUZZ_CHECK(status != EMBED_ERR_INTERNAL && strcmp(name, "EMBED_ERR_?") != 0);
    FUZZ_CHECK(strlen(emb_fail_message()) > strlen(name) + 2);
    FUZZ_CHECK(strncmp(emb_fail_message(), name, strlen(name)) == 0);
}

#define _POSIX_C_SOURCE 200809L
#include "io/map.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/file.h"

static const unsigned char empty_file[1];

embed_status emb_map_open(emb_map *map, const emb_env *env, const char *path,
                          emb_map_advice advice) {
    embed_status st;
    uint64_t size;
    int fd = -1;
    *map = (emb_map){NULL, 0, NULL};
    EMB_TRY(emb_strdup(env, path, strlen(path), &map->path));
    EMB_TRY(emb_file_open(path, &fd, &size));
    if (size > SIZE_MAX) {
        st =
            emb_fail(EMBED_ERR_IO, "%s: expected a file this process can address, found %llu bytes",
                     path, (unsigned long long)size);
        goto fail;
    }
    if (size == 0) { /* mmap refuses nothing */
        map->data = empty_file;
    } else {
        void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            st = emb_file_fail(path, "cannot map");
            goto fail;
        }
        map->data = data;
        map->size = (size_t)size;
        emb_map_advise(map, 0, map->size, advice);
    }
    emb_file_close(fd); /* the mapping stays */
    return EMBED_OK;
fail:
    emb_file_close(fd);
    emb_free(env, map->path);
    *map = (emb_map){NULL, 0, NULL};
    return st;
}

void emb_map_close(emb_map *map, const emb_env *env) {
    if (map->size > 0)
        (void)munmap((void *)(uintptr_t)map->data, map->size);
    emb_free(env, map->path);
    *map = (emb_map){NULL, 0, NULL};
}

embed_status emb_map_view(const emb_map *map, uint64_t offset, uint64_t size, const char *what,
                          const unsigned char **out) {
    *out = NULL;
    if (offset > map->size || size > map->size - offset)
        return emb_fail(
            EMBED_ERR_TRUNCATED, "%s: %s: expected %llu bytes at offset %llu, found a file of %zu",
            map->path, what, (unsigned long long)size, (unsigned long long)offset, map->size);
    *out = map->data + offset;
    return EMBED_OK;
}

void emb_map_advise(const emb_map *map, size_t offset, size_t size, emb_map_advice advice) {
    static const int values[] = {POSIX_MADV_NORMAL, POSIX_MADV_RANDOM, POSIX_MADV_SEQUENTIAL,
                                 POSIX_MADV_WILLNEED};
    const long page = sysconf(_SC_PAGESIZE);
    if (page <= 0 || offset >= map->size || size == 0)
        return;
    const size_t end = size < map->size - offset ? offset + size : map->size;
    const size_t start = offset / (size_t)page * (size_t)page;
    /* Only a hint: a kernel that does not take it changes nothing but speed. */
    (void)posix_madvise((void *)(uintptr_t)(map->data + start), end - start, values[advice]);
}

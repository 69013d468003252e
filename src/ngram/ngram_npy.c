#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define MAX_HEADER ((size_t)64 << 10)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define HOST_ORDER '<'
#else
#define HOST_ORDER '>'
#endif

int emb_npy_is(int fd) {
    char magic[MAGIC_BYTES];
    return pread(fd, magic, sizeof magic, 0) == MAGIC_BYTES &&
           memcmp(magic, MAGIC, MAGIC_BYTES) == 0;
}

void emb_npy_make_header(char header[EMB_NPY_HEADER_BYTES], uint64_t rows, uint64_t columns) {
    char dict[EMB_NPY_HEADER_BYTES];
    const int len = snprintf(dict, sizeof dict,
                             "{'descr': '%cf4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                             HOST_ORDER, (unsigned long long)rows, (unsigned long long)columns);
    memset(header, ' ', EMB_NPY_HEADER_BYTES);
    memcpy(header, MAGIC "\x01\x00", MAGIC_BYTES + 2);
    header[8] = EMB_NPY_HEADER_BYTES - 10; /* two bytes, little-endian */
    header[9] = 0;
    memcpy(header + 10, dict, (size_t)len);
    header[EMB_NPY_HEADER_BYTES - 1] = '\n';
}

/* What stands after 'key': in the dict; NULL if it is not there. Keys never stand inside values,
 * since values are numbers, names of types and True or False. */
static const char *value_of(const char *dict, const char *key) {
    char quoted[32];
    (void)snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *p = strstr(dict, quoted);
    if (p == NULL)
        return NULL;
    p += strlen(quoted);
    p += strspn(p, " ");
    if (*p++ != ':')
        return NULL;
    return p + strspn(p, " ");
}

static int read_type(emb_npy *npy, const char *p) {
    const size_t n = p != NULL && *p == '\'' ? strcspn(p + 1, "'") : 0;
    if (n < 3 || n > sizeof npy->type || strchr("<>=|", p[1]) == NULL)
        return 0;
    npy->big_endian = p[1] == '>' || (p[1] == '=' && HOST_ORDER == '>');
    memcpy(npy->type, p + 2, n - 1);
    npy->type[n - 1] = '\0';
    return 1;
}

static int read_order(emb_npy *npy, const char *p) {
    if (p == NULL || (strncmp(p, "True", 4) != 0 && strncmp(p, "False", 5) != 0))
        return 0;
    npy->fortran_order = *p == 'T';
    return 1;
}

static int read_shape(emb_npy *npy, const char *p) {
    if (p == NULL || *p++ != '(')
        return 0;
    for (p += strspn(p, " "); *p != ')';) {
        char *end;
        if (*p < '0' || *p > '9')
            return 0;
        const uint64_t v = strtoull(p, &end, 10);
        if (end - p > 19)
            return 0;
        if (npy->rank < 2)
            npy->shape[npy->rank] = v;
        npy->rank++;
        p = end + strspn(end, " L"); /* Python 2 wrote 10L */
        if (*p == ',')
            p += 1 + strspn(p + 1, " ");
        else if (*p != ')')
            return 0;
    }
    return 1;
}

/* The data of one or two dimensions must be as long as the file says; more is refused by rank. */
static embed_status check_bytes(const emb_npy *npy, const char *path, uint64_t size) {
    embed_status st = EMBED_OK;
    size_t need;
    const long element = strtol(npy->type + 1, NULL, 10);
    if (npy->rank < 1 || npy->rank > 2 || element < 1 || element > 64)
        return EMBED_OK;
    EMB_TRY(emb_mul(npy->shape[0], npy->rank == 2 ? npy->shape[1] : 1, path, &need));
    EMB_TRY(emb_mul(need, (size_t)element, path, &need));
    EMB_TRY(emb_add(need, npy->data_offset, path, &need));
    if (size != need)
        return emb_fail(size < need ? EMBED_ERR_TRUNCATED : EMBED_ERR_FORMAT,
                        "%s: its header says %llu x %llu %s, so %zu bytes, found %llu", path,
                        (unsigned long long)npy->shape[0],
                        (unsigned long long)(npy->rank == 2 ? npy->shape[1] : 1), npy->type, need,
                        (unsigned long long)size);
fail:
    return st;
}

embed_status emb_npy_read_header(emb_npy *npy, const emb_env *env, int fd, const char *path,
                                 uint64_t size) {
    embed_status st = EMBED_OK;
    unsigned char fixed[12] = {0};
    char *dict = NULL;
    memset(npy, 0, sizeof *npy);
    EMB_TRY(emb_file_read_at(fd, path, 0, fixed, 10));
    if (fixed[6] < 1 || fixed[6] > 3) {
        st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: .npy version %d", path, fixed[6]);
        goto fail;
    }
    const size_t start = fixed[6] == 1 ? 10 : 12;
    EMB_TRY(emb_file_read_at(fd, path, 0, fixed, start));
    const size_t len = fixed[6] == 1 ? (size_t)fixed[8] + ((size_t)fixed[9] << 8)
                                     : (size_t)fixed[8] + ((size_t)fixed[9] << 8) +
                                           ((size_t)fixed[10] << 16) + ((size_t)fixed[11] << 24);
    if (len > MAX_HEADER) {
        st = emb_fail(EMBED_ERR_FORMAT, "%s: .npy header of %zu bytes", path, len);
        goto fail;
    }
    EMB_TRY(emb_new(env, len + 1, (void **)&dict));
    EMB_TRY(emb_file_read_at(fd, path, start, dict, len));
    npy->data_offset = start + len;
    if (!read_type(npy, value_of(dict, "descr"))) {
        st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: expected numbers of one type, found %.60s", path,
                      dict);
        goto fail;
    }
    if (!read_order(npy, value_of(dict, "fortran_order")) ||
        !read_shape(npy, value_of(dict, "shape"))) {
        st = emb_fail(EMBED_ERR_FORMAT, "%s: expected a .npy header, found %.100s", path, dict);
        goto fail;
    }
    EMB_TRY(check_bytes(npy, path, size));
fail:
    emb_free(env, dict);
    return st;
}

#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_rows_file.h"

#include <string.h>
#include <sys/stat.h>

#include "base/dtype.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "ngram/ngram_npy.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PIECE_BYTES ((size_t)256 << 10) /* read and converted at once */
#define ENDS_BYTES 4096                 /* of the data, at either end, that the digest looks at */

struct emb_ngram_rows_file {
    emb_env env;
    char *path;
    int fd;
    int32_t dtype, width, swap; /* swap 1: bytes of an element in the other order */
    uint64_t rows, start;       /* offset of row 0 */
    unsigned char *piece;
    uint8_t digest[16];
};

static size_t element_bytes(int32_t dtype) {
    return dtype == EMB_NGRAM_ROWS_F64 ? sizeof(double) : emb_dtype_bytes(dtype);
}

static int big_endian_host(void) {
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first == 0;
}

static int ends_in(const char *path, const char *end) {
    const size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

/* ---------------------------------------------------------------------------------- the formats */

static embed_status open_npy(emb_ngram_rows_file *f, uint64_t size) {
    embed_status st = EMBED_OK;
    emb_npy npy;
    EMB_TRY(emb_npy_read_header(&npy, &f->env, f->fd, f->path, size));
    if (npy.rank != 2) {
        st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: expected an array [rows, width], found %d %s",
                      f->path, npy.rank, npy.rank == 1 ? "dimension" : "dimensions");
        goto fail;
    }
    if (npy.fortran_order && npy.shape[0] > 1 && npy.shape[1] > 1) {
        st = emb_fail(EMBED_ERR_UNSUPPORTED,
                      "%s: columns first (fortran_order); write numpy.ascontiguousarray(rows)",
                      f->path);
        goto fail;
    }
    if (strcmp(npy.type, "f8") == 0)
        f->dtype = EMB_NGRAM_ROWS_F64;
    else if (strcmp(npy.type, "f4") == 0)
        f->dtype = EMBED_F32;
    else if (strcmp(npy.type, "f2") == 0)
        f->dtype = EMBED_F16;
    else {
        st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: expected elements f2, f4 or f8, found %s",
                      f->path, npy.type);
        goto fail;
    }
    f->swap = npy.big_endian != big_endian_host();
    f->rows = npy.shape[0];
    if (npy.shape[1] > INT32_MAX)
        return emb_fail(EMBED_ERR_UNSUPPORTED, "%s: %llu columns", f->path,
                        (unsigned long long)npy.shape[1]);
    f->width = (int32_t)npy.shape[1];
    f->start = npy.data_offset;
fail:
    return st;
}

static embed_status choose_tensor(const emb_ngram_rows_file *f, const emb_safetensors *s,
                                  const char *name, const emb_tensor **out) {
    *out = name != NULL ? emb_safetensors_find(s, name) : s->n == 1 ? &s->tensors[0] : NULL;
    if (*out != NULL)
        return EMBED_OK;
    if (name != NULL)
        return emb_fail(EMBED_ERR_FORMAT, "%s: no tensor named %s", f->path, name);
    return emb_fail(EMBED_ERR_ARG, "%s: %zu tensors; name the one that holds the rows", f->path,
                    s->n);
}

static embed_status open_safetensors(emb_ngram_rows_file *f, const char *name) {
    embed_status st = EMBED_OK;
    emb_safetensors s = {0};
    const emb_tensor *t;
    EMB_TRY(emb_safetensors_open(&s, &f->env, f->path));
    EMB_TRY(choose_tensor(f, &s, name, &t));
    f->dtype = t->dtype != 0                       ? t->dtype
               : strcmp(t->dtype_name, "F64") == 0 ? EMB_NGRAM_ROWS_F64
                                                   : 0;
    if (f->dtype == 0)
        st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: %s: expected F16, BF16, F32 or F64, found %s",
                      f->path, t->name, t->dtype_name);
    else if (t->rank != 2 || t->shape[1] > INT32_MAX) {
        char shape[EMB_SHAPE_SHOWN];
        st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: %s: expected a shape [rows, width], found %s",
                      f->path, t->name, emb_tensor_show_shape(t, shape));
    }
    f->swap = big_endian_host();
    f->rows = (uint64_t)t->shape[0];
    f->width = (int32_t)t->shape[1];
    f->start = (uint64_t)(t->data - s.map.data);
fail:
    emb_safetensors_close(&s, &f->env);
    return st;
}

static embed_status open_raw(emb_ngram_rows_file *f, uint64_t size,
                             const emb_ngram_rows_params *p) {
    const size_t bytes = element_bytes(p->raw_dtype) * (size_t)p->raw_width;
    if (p->raw_width <= 0 || bytes == 0)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: neither .npy nor .safetensors; for bare numbers give type and width",
                        f->path);
    if (size % bytes != 0)
        return emb_fail(EMBED_ERR_TRUNCATED,
                        "%s: expected rows of %zu bytes, found %llu bytes, which is no multiple",
                        f->path, bytes, (unsigned long long)size);
    f->dtype = p->raw_dtype;
    f->swap = big_endian_host();
    f->rows = size / bytes;
    f->width = p->raw_width;
    return EMBED_OK;
}

/* ------------------------------------------------------------------------------------- opening */

static embed_status make_digest(emb_ngram_rows_file *f) {
    embed_status st = EMBED_OK;
    struct stat info;
    XXH3_state_t state;
    const uint64_t bytes = f->rows * (uint64_t)f->width * element_bytes(f->dtype);
    const size_t ends = bytes < ENDS_BYTES ? (size_t)bytes : ENDS_BYTES;
    if (fstat(f->fd, &info) != 0)
        return emb_file_fail(f->path, "cannot stat");
    const uint64_t facts[] = {
        (uint64_t)info.st_size,
        (uint64_t)info.st_mtim.tv_sec,
        (uint64_t)info.st_mtim.tv_nsec,
        f->rows,
        (uint64_t)f->width,
        (uint64_t)f->dtype,
        (uint64_t)f->swap,
        f->start,
    };
    (void)XXH3_128bits_reset(&state);
    (void)XXH3_128bits_update(&state, facts, sizeof facts);
    EMB_TRY(emb_file_read_at(f->fd, f->path, f->start, f->piece, ends));
    (void)XXH3_128bits_update(&state, f->piece, ends);
    EMB_TRY(emb_file_read_at(f->fd, f->path, f->start + bytes - ends, f->piece, ends));
    (void)XXH3_128bits_update(&state, f->piece, ends);
    XXH128_canonicalFromHash((XXH128_canonical_t *)f->digest, XXH3_128bits_digest(&state));
fail:
    return st;
}

embed_status emb_ngram_rows_file_open(emb_ngram_rows_file **out, const emb_env *env,
                                      const char *path, const emb_ngram_rows_params *params) {
    embed_status st = EMBED_OK;
    const emb_ngram_rows_params none = {NULL, 0, 0};
    emb_ngram_rows_file *f = NULL;
    uint64_t size;
    *out = NULL;
    if (params == NULL)
        params = &none;
    EMB_TRY(emb_new(env, sizeof *f, (void **)&f));
    f->env = *env;
    f->fd = -1;
    EMB_TRY(emb_strdup(env, path, strlen(path), &f->path));
    EMB_TRY(emb_alloc(env, PIECE_BYTES, (void **)&f->piece));
    EMB_TRY(emb_file_open(path, &f->fd, &size));
    if (emb_npy_is(f->fd))
        EMB_TRY(open_npy(f, size));
    else if (ends_in(path, ".safetensors"))
        EMB_TRY(open_safetensors(f, params->tensor));
    else if (ends_in(path, ".npy"))
        EMB_TRY(
            emb_fail(EMBED_ERR_FORMAT, "%s: not a .npy file, its first bytes are others", path));
    else
        EMB_TRY(open_raw(f, size, params));
    if (f->width < 1) {
        st = emb_fail(EMBED_ERR_FORMAT, "%s: rows of %d numbers", path, f->width);
        goto fail;
    }
    EMB_TRY(make_digest(f));
    *out = f;
    return EMBED_OK;
fail:
    emb_ngram_rows_file_free(f);
    return st;
}

void emb_ngram_rows_file_free(emb_ngram_rows_file *f) {
    if (f == NULL)
        return;
    const emb_env env = f->env;
    emb_file_close(f->fd);
    emb_free(&env, f->piece);
    emb_free(&env, f->path);
    emb_free(&env, f);
}

uint64_t emb_ngram_rows_file_rows(const emb_ngram_rows_file *f) {
    return f->rows;
}

int32_t emb_ngram_rows_file_width(const emb_ngram_rows_file *f) {
    return f->width;
}

void emb_ngram_rows_file_digest(const emb_ngram_rows_file *f, uint8_t digest[16]) {
    memcpy(digest, f->digest, sizeof f->digest);
}

/* ------------------------------------------------------------------------------------- reading */

static void swap_elements(unsigned char *p, size_t n, size_t bytes) {
    for (size_t i = 0; i < n; i++, p += bytes)
        for (size_t a = 0, b = bytes - 1; a < b; a++, b--) {
            const unsigned char t = p[a];
            p[a] = p[b];
            p[b] = t;
        }
}

static void convert(int32_t dtype, const unsigned char *in, size_t n, float *out) {
    uint16_t half;
    double wide;
    switch (dtype) {
    case EMBED_F16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, in + i * sizeof half, sizeof half);
            out[i] = emb_f16_to_f32(half);
        }
        return;
    case EMBED_BF16:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, in + i * sizeof half, sizeof half);
            out[i] = emb_bf16_to_f32(half);
        }
        return;
    case EMB_NGRAM_ROWS_F64:
        for (size_t i = 0; i < n; i++) {
            memcpy(&wide, in + i * sizeof wide, sizeof wide);
            out[i] = (float)wide;
        }
        return;
    default:
        memcpy(out, in, n * sizeof *out);
    }
}

embed_status emb_ngram_rows_file_read(emb_ngram_rows_file *f, uint64_t first, size_t n,
                                      float *out) {
    embed_status st = EMBED_OK;
    const size_t bytes = element_bytes(f->dtype), most = PIECE_BYTES / bytes;
    size_t left;
    if (first > f->rows || n > f->rows - first)
        return emb_fail(EMBED_ERR_INTERNAL, "%s: rows %llu + %zu of %llu", f->path,
                        (unsigned long long)first, n, (unsigned long long)f->rows);
    EMB_TRY(emb_mul(n, (size_t)f->width, "rows", &left));
    for (uint64_t offset = f->start + first * (uint64_t)f->width * bytes; left > 0;) {
        const size_t now = left < most ? left : most;
        EMB_TRY(emb_file_read_at(f->fd, f->path, offset, f->piece, now * bytes));
        if (f->swap)
            swap_elements(f->piece, now, bytes);
        convert(f->dtype, f->piece, now, out);
        offset += now * bytes;
        out += now;
        left -= now;
    }
fail:
    return st;
}

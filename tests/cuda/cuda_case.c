#include "cuda/cuda_case.h"

#include "base/dtype.h"

enum { GUARD = 64, GUARD_BYTE = 0x5c, MOST = 4096 };

const int32_t cuda_dtypes[CUDA_DTYPES] = {EMBED_F32, EMBED_F16, EMBED_BF16};

static struct {
    unsigned char *whole;
    size_t size;  /* of it */
    size_t bytes; /* between the guard zones, + 1; 0: there are none */
} blocks[MOST];
static size_t n_blocks;
static emb_cuda_exec exec_now;

static void *keep(size_t bytes, size_t guarded) {
    unsigned char *whole = malloc(bytes + (bytes == 0));
    assert_non_null(whole);
    assert_true(n_blocks < MOST);
    blocks[n_blocks].whole = whole;
    blocks[n_blocks].size = bytes;
    blocks[n_blocks++].bytes = guarded;
    return whole;
}

size_t cuda_size(int32_t dtype) {
    return dtype == EMBED_I8 ? 1 : emb_dtype_bytes(dtype);
}

double cuda_rounding(int32_t dtype) {
    return dtype == EMBED_F32 ? 0x1p-24 : dtype == EMBED_F16 ? 0x1p-11 : 0x1p-8;
}

double cuda_least(int32_t dtype) {
    return dtype == EMBED_F16 ? 0x1p-25 : 1e-40;
}

static uint16_t to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

double cuda_at(const void *p, int32_t dtype, size_t i) {
    const unsigned char *at = (const unsigned char *)p + i * cuda_size(dtype);
    uint16_t half;
    float single;
    if (dtype == EMBED_F32) {
        memcpy(&single, at, sizeof single);
        return (double)single;
    }
    memcpy(&half, at, sizeof half);
    return (double)(dtype == EMBED_F16 ? emb_f16_to_f32(half) : emb_bf16_to_f32(half));
}

void *cuda_normals(uint64_t *seed, size_t n, double scale, int32_t dtype, double *exact) {
    void *p = keep(n * cuda_size(dtype), 0);
    for (size_t i = 0; i < n; i++) {
        const float x = (float)(scale * test_normal(seed));
        if (dtype == EMBED_F32)
            ((float *)p)[i] = x;
        else
            ((uint16_t *)p)[i] = dtype == EMBED_F16 ? emb_f32_to_f16(x) : to_bf16(x);
        if (exact != NULL)
            exact[i] = cuda_at(p, dtype, i);
    }
    return p;
}

void *cuda_shifted(const void *p, size_t n, int32_t dtype) {
    unsigned char *q = keep((n + 1) * cuda_size(dtype), 0);
    return memcpy(q + cuda_size(dtype), p, n * cuda_size(dtype));
}

void *cuda_copy(const void *p, size_t bytes) {
    return memcpy(keep(bytes, 0), p, bytes);
}

double *cuda_doubles(size_t n) {
    double *p = keep(n * sizeof *p, 0);
    for (size_t i = 0; i < n; i++)
        p[i] = 0;
    return p;
}

void *cuda_output(size_t bytes) {
    unsigned char *whole = keep(bytes + 2 * GUARD, bytes + 1);
    memset(whole, GUARD_BYTE, bytes + 2 * GUARD);
    return memset(whole + GUARD, 0xff, bytes);
}

void cuda_close(const char *what, const void *got, int32_t dtype, const double *want, size_t n,
                double atol, double rtol) {
    for (size_t i = 0; i < n; i++) {
        const double g = cuda_at(got, dtype, i);
        if (!(fabs(g - want[i]) <= atol + rtol * fabs(want[i])))
            fail_msg("%s, type %d: [%zu] of %zu is %.9g, want %.9g, within %.3g + %.3g of it", what,
                     (int)dtype, i, n, g, want[i], atol, rtol);
    }
}

void cuda_same(const char *what, const void *a, const void *b, size_t bytes) {
    if (memcmp(a, b, bytes) != 0)
        fail_msg("%s: not the same bits", what);
}

emb_cuda_exec *cuda_exec(void) {
    exec_now = (emb_cuda_exec){.processors = 4};
    return &exec_now;
}

void cuda_worked(const char *what, embed_status st) {
    if (st != EMBED_OK)
        fail_msg("%s: %s (%s, error %d): %s", what, embed_status_name(st),
                 exec_now.failed ? exec_now.failed : "", (int)exec_now.error,
                 emb_emulation_error());
}

size_t cuda_blocks(void) {
    return n_blocks;
}

void *cuda_block(size_t i, size_t *bytes) {
    *bytes = blocks[i].size;
    return blocks[i].whole;
}

void cuda_case_end(void) {
    for (size_t i = 0; i < n_blocks; i++) {
        for (size_t b = 0; blocks[i].bytes > 0 && b < GUARD; b++)
            if (blocks[i].whole[b] != GUARD_BYTE ||
                blocks[i].whole[GUARD + blocks[i].bytes - 1 + b] != GUARD_BYTE)
                fail_msg("output %zu was written outside its %zu bytes", i, blocks[i].bytes - 1);
        free(blocks[i].whole);
    }
    n_blocks = 0;
    emb_emulation_seed(0);
}

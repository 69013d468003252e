#include "cuda/cuda_case.h"

#include "kernels/rotary/rotary_cuda.h"

enum { TEXTS = 3, ROOM = 5, T = 9, HEADS = 3 };
static const int32_t offsets[TEXTS + 1] = {0, 4, 4, T};

static void run(int32_t head_dim, int32_t rotary_dim, int32_t dtype) {
    uint64_t seed = (uint64_t)(head_dim * 100 + rotary_dim);
    const size_t row = (size_t)(HEADS * head_dim), n = T * 3 * row, half = (size_t)rotary_dim / 2;
    double *x = cuda_doubles(n), *cosines = cuda_doubles(T * half + 1),
           *sines = cuda_doubles(T * half + 1);
    int32_t positions[T];
    for (int text = 0; text < TEXTS; text++)
        for (int32_t t = offsets[text]; t < offsets[text + 1]; t++)
            positions[t] = t - offsets[text];
    const void *in = cuda_normals(&seed, n, 1.0, dtype, x);
    emb_cuda_rotary_args a = {
        .positions = cuda_copy(positions, sizeof positions),
        .cos = cuda_normals(&seed, T * half + 1, 1.0, EMBED_F32, cosines),
        .sin = cuda_normals(&seed, T * half + 1, 1.0, EMBED_F32, sines),
        .offsets = cuda_copy(offsets, sizeof offsets),
        .tokens = T,
        .texts = TEXTS,
        .room = ROOM,
        .heads = HEADS,
        .head_dim = head_dim,
        .rotary_dim = rotary_dim,
        .dtype = dtype,
    };
    double *want = cuda_doubles(n), bound = 0;
    memcpy(want, x, n * sizeof *x);
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < 2 * HEADS; h++)
            for (size_t d = 0; d < half; d++) {
                const size_t at = t * 3 * row + h * (size_t)head_dim + d;
                const double c = cosines[(size_t)positions[t] * half + d],
                             s = sines[(size_t)positions[t] * half + d];
                want[at] = x[at] * c - x[at + half] * s;
                want[at + half] = x[at + half] * c + x[at] * s;
                bound =
                    fmax(bound, 0x1p-23 * (fabs(x[at]) + fabs(x[at + half])) * (fabs(c) + fabs(s)));
            }
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.qkv = cuda_copy(in, n * cuda_size(dtype));
        a.lengths = cuda_output(ROOM * sizeof(int32_t));
        a.qkv_offsets = cuda_output((ROOM + 1) * sizeof(int32_t));
        a.out_offsets = cuda_output((ROOM + 1) * sizeof(int32_t));
        emb_emulation_seed(order);
        cuda_worked("rotary", emb_cuda_rotary(cuda_exec(), &a));
        cuda_close("rotary", a.qkv, dtype, want, n, bound + cuda_least(dtype),
                   cuda_rounding(dtype) * 1.01);
        for (int32_t i = 0; i <= ROOM; i++) {
            const int32_t first = offsets[i < TEXTS ? i : TEXTS];
            assert_int_equal(a.qkv_offsets[i], first * 3 * (int32_t)row);
            assert_int_equal(a.out_offsets[i], first * (int32_t)row);
            if (i < ROOM)
                assert_int_equal(a.lengths[i], i < TEXTS ? offsets[i + 1] - offsets[i] : 0);
        }
    }
    cuda_case_end();
}

static void rotated_in_place(void **state) {
    static const int32_t dims[][2] = {{8, 8}, {64, 64}, {64, 32}, {7, 2}, {128, 128}, {16, 0}};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            run(dims[i][0], dims[i][1], cuda_dtypes[d]);
}

static void limits_are_refused_and_nothing_is_launched_for_nothing(void **state) {
    const emb_cuda_rotary_args good = {.heads = 1, .head_dim = 8, .dtype = EMBED_F16};
    emb_cuda_rotary_args a = good;
    const uint64_t before = emb_emulation_launches();
    (void)state;
    cuda_worked("nothing", emb_cuda_rotary(cuda_exec(), &a));
    a.rotary_dim = 3;
    assert_int_equal(emb_cuda_rotary(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a = good;
    a.texts = 1;
    assert_int_equal(emb_cuda_rotary(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a = good;
    a.tokens = INT32_MAX / 24 + 1;
    assert_int_equal(emb_cuda_rotary(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a = good;
    a.dtype = EMBED_I8;
    emb_cuda_exec *exec = cuda_exec();
    assert_int_equal(emb_cuda_rotary(exec, &a), EMBED_ERR_INTERNAL);
    assert_string_equal(exec->failed, "rotary: dtype");
    assert_true(emb_emulation_launches() == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotated_in_place),
        cmocka_unit_test(limits_are_refused_and_nothing_is_launched_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

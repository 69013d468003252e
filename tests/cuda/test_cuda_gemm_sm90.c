/* The kernel of sm_90a alone, at the edges of its three tiles, and the choice between it and the
 * other one. */
#include "cuda/gemm_case.h"

#include "kernels/gemm/gemm.h"

/* On GPUs of another kind there is nothing to test: exec then says what the device is. */
static void need_the_device(void) {
    uint64_t seed = 1;
    emb_cuda_gemm_args a = {.m = 1, .n = 8, .k = 8, .ldx = 8, .ldy = 8, .dtype = EMBED_BF16};
    emb_cuda_exec *exec = gemm_case_exec(&(gemm_case){.sm90 = 1});
    a.x = cuda_normals(&seed, 8, 1.0, EMBED_BF16, NULL);
    a.w = cuda_normals(&seed, 64, 1.0, EMBED_BF16, NULL);
    a.y = cuda_output(16);
    const embed_status st = emb_cuda_gemm_sm90(exec, &a);
    assert_true(st == EMBED_OK || exec->arch != 90 || exec->tensor_maps == NULL);
    cuda_case_end();
    if (st != EMBED_OK)
        skip();
}

static const int32_t halves[] = {EMBED_F16, EMBED_BF16};

static void run_all(const gemm_case *cases, size_t n) {
    for (int d = 0; d < 2; d++)
        for (size_t i = 0; i < n; i++) {
            gemm_case c = cases[i];
            c.sm90 = 1;
            gemm_case_run(&c, halves[d], emb_cuda_gemm_sm90);
        }
}
#define RUN_ALL(cases) run_all(cases, sizeof cases / sizeof *cases)

/* The number of processors decides the tile: 1 or 2 the large one, 99 the smallest. */
static void tile_edges_agree_with_double(void **state) {
    static const gemm_case cases[] = {
        {.m = 1, .n = 1, .k = 8, .layout = EMB_GEMM_NT, .processors = 99},
        {.m = 1, .n = 8, .k = 1, .layout = EMB_GEMM_NN, .processors = 99, .bias = 1, .lda = 8},
        {.m = 63, .n = 31, .k = 56, .layout = EMB_GEMM_NT, .bias = 1, .processors = 99},
        {.m = 64, .n = 32, .k = 64, .layout = EMB_GEMM_NN, .act = EMB_ACT_GELU, .processors = 99},
        {.m = 65,
         .n = 33,
         .k = 72,
         .layout = EMB_GEMM_NT,
         .act = EMB_ACT_SILU,
         .bias = 1,
         .mul = 1,
         .processors = 99},
        {.m = 7, .n = 40, .k = 1096, .layout = EMB_GEMM_NT, .bias = 1, .processors = 99},
        {.m = 5, .n = 40, .k = 1100, .layout = EMB_GEMM_NN, .processors = 99, .lda = 1104},
        {.m = 63, .n = 127, .k = 128, .layout = EMB_GEMM_NT, .act = EMB_ACT_TANH, .processors = 2},
        {.m = 65,
         .n = 136,
         .k = 200,
         .layout = EMB_GEMM_NN,
         .act = EMB_ACT_GELU_TANH,
         .bias = 1,
         .mul = 1,
         .processors = 5},
        {.m = 70, .n = 580, .k = 776, .act = EMB_ACT_GELU, .bias = 1, .processors = 1}, /* long */
        {.m = 127, .n = 191, .k = 64, .layout = EMB_GEMM_NT, .act = EMB_ACT_RELU, .processors = 1},
        {.m = 129,
         .n = 193,
         .k = 80,
         .layout = EMB_GEMM_NT,
         .act = EMB_ACT_GELU,
         .bias = 1,
         .processors = 1},
        {.m = 191,
         .n = 200,
         .k = 328,
         .layout = EMB_GEMM_NN,
         .act = EMB_ACT_SIGMOID,
         .mul = 1,
         .processors = 2},
        {.m = 192, .n = 380, .k = 136, .layout = EMB_GEMM_NT, .mul = 1, .processors = 2},
    };
    (void)state;
    need_the_device();
    RUN_ALL(cases);
}

static void groups_take_the_rows_the_device_says(void **state) {
    static const int32_t one[] = {9}, few[] = {3, 0, 17, 1}, all_in_one[] = {0, 0, 70, 0},
                         even[] = {64, 64, 64}, large[] = {190, 0, 1, 127}, none[] = {0, 0};
    static const gemm_case cases[] = {
        {.m = 5,
         .n = 24,
         .k = 40,
         .act = EMB_ACT_GELU,
         .groups = 1,
         .sizes = one,
         .processors = 99},
        {.m = 11,
         .n = 40,
         .k = 72,
         .act = EMB_ACT_GELU,
         .bias = 1,
         .groups = 4,
         .sizes = few,
         .processors = 99},
        {.m = 21,
         .n = 40,
         .k = 72,
         .layout = EMB_GEMM_NN,
         .mul = 1,
         .groups = 4,
         .sizes = few,
         .plain = 1,
         .processors = 99},
        {.m = 70,
         .n = 136,
         .k = 64,
         .layout = EMB_GEMM_NN,
         .groups = 4,
         .sizes = all_in_one,
         .processors = 2},
        {.m = 20,
         .n = 33,
         .k = 64,
         .act = EMB_ACT_SILU,
         .bias = 1,
         .mul = 1,
         .groups = 3,
         .sizes = even,
         .processors = 2},
        {.m = 318,
         .n = 136,
         .k = 72,
         .layout = EMB_GEMM_NN,
         .groups = 4,
         .sizes = large,
         .plain = 1,
         .processors = 1},
        {.m = 33,
         .n = 72,
         .k = 136,
         .act = EMB_ACT_GELU,
         .bias = 1,
         .groups = 4,
         .sizes = large,
         .processors = 1},
        {.m = 4, .n = 8, .k = 8, .bias = 1, .groups = 2, .sizes = none, .processors = 99},
    };
    (void)state;
    need_the_device();
    RUN_ALL(cases);
}

static void sixty_four_groups_of_random_sizes(void **state) {
    int32_t sizes[64];
    uint64_t seed = 64;
    (void)state;
    need_the_device();
    for (int g = 0; g < 64; g++)
        sizes[g] = (int32_t)(test_rand(&seed) % 5) * (g % 3 != 1);
    sizes[40] = 70;
    run_all(&(gemm_case){.m = 12,
                         .n = 16,
                         .k = 24,
                         .layout = EMB_GEMM_NN,
                         .act = EMB_ACT_GELU,
                         .bias = 1,
                         .groups = 64,
                         .sizes = sizes,
                         .processors = 99},
            1);
}

/* A row's bits depend neither on the rows around it nor on the tile that their number chooses. */
static void a_row_is_the_same_in_every_product(void **state) {
    enum { M = 150, N = 136, K = 200 };
    static const struct {
        int64_t m;
        int32_t processors;
    } products[] = {{M, 1}, {M, 8}, {20, 99}, {1, 99}};
    (void)state;
    need_the_device();
    for (int d = 0; d < 2; d++) {
        const size_t size = cuda_size(halves[d]);
        uint64_t seed = 12;
        void *first = NULL;
        emb_cuda_gemm_args a = {
            .x = cuda_normals(&seed, M * K, 1.0, halves[d], NULL),
            .w = cuda_normals(&seed, N * K, 1.0, halves[d], NULL),
            .bias = cuda_normals(&seed, N, 1.0, EMBED_F32, NULL),
            .n = N,
            .k = K,
            .ldx = K,
            .ldy = N,
            .dtype = halves[d],
            .act = EMB_ACT_GELU,
        };
        for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
            emb_cuda_exec *exec =
                gemm_case_exec(&(gemm_case){.sm90 = 1, .processors = products[i].processors});
            a.m = products[i].m;
            a.y = cuda_output((size_t)a.m * N * size);
            cuda_worked("gemm", emb_cuda_gemm_sm90(exec, &a));
            if (first != NULL)
                cuda_same("the rows of a smaller product", first, a.y, (size_t)a.m * N * size);
            first = first != NULL ? first : a.y;
        }
        cuda_case_end();
    }
}

/* NaN in one row stays there; rows beyond the count are neither read nor written. */
static void the_count_is_the_device_s(void **state) {
    static const int32_t counts[] = {0, 1, 64, 65, 130};
    (void)state;
    need_the_device();
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        const size_t rows = (size_t)counts[c];
        uint64_t seed = 13;
        uint16_t *x = cuda_normals(&seed, rows * 24, 1.0, EMBED_BF16, NULL);
        if (rows > 0)
            memset(x + (rows / 2) * 24, 0xff, 24 * sizeof *x);
        emb_cuda_gemm_args a = {.x = x,
                                .count = cuda_copy(&counts[c], sizeof counts[c]),
                                .m = 140,
                                .n = 20,
                                .k = 24,
                                .ldx = 24,
                                .ldy = 20,
                                .dtype = EMBED_BF16};
        a.w = cuda_normals(&seed, 20 * 24, 1.0, EMBED_BF16, NULL);
        a.y = cuda_output(rows * 20 * sizeof *x);
        emb_cuda_exec *exec = gemm_case_exec(&(gemm_case){.sm90 = 1, .processors = 1 + (int)c});
        cuda_worked("gemm", emb_cuda_gemm_sm90(exec, &a));
        for (size_t i = 0; i < rows * 20; i++)
            assert_true(isnan(cuda_at(a.y, EMBED_BF16, i)) == (i / 20 == rows / 2));
        cuda_case_end();
    }
}

/* What the kernel does not take the other one does, on the same device; nothing of the choice is
 * about rows. */
static void what_it_does_not_take_goes_the_other_way(void **state) {
    static const gemm_case cases[] = {
        {.m = 9, .n = 20, .k = 12, .layout = EMB_GEMM_NT}, /* rows of 24 bytes */
        {.m = 9, .n = 20, .k = 16, .layout = EMB_GEMM_NN},
        {.m = 9, .n = 24, .k = 16, .shifted = 1},
    };
    uint64_t seed = 5;
    (void)state;
    need_the_device();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gemm_case c = cases[i];
        c.sm90 = 1;
        gemm_case_run(&c, EMBED_BF16, emb_cuda_gemm);
    }
    emb_cuda_gemm_args a = {.m = 4, .n = 8, .k = 8, .ldx = 8, .ldy = 8, .dtype = EMBED_BF16};
    a.x = cuda_normals(&seed, 35, 1.0, EMBED_BF16, NULL);
    a.w = cuda_normals(&seed, 64, 1.0, EMBED_BF16, NULL);
    a.y = cuda_output(64);
    for (int why = 0; why < 5; why++) {
        emb_cuda_exec *exec = gemm_case_exec(&(gemm_case){.sm90 = 1});
        emb_cuda_gemm_args b = a;
        if (why == 1)
            exec->arch = 80;
        if (why == 2)
            exec->tensor_maps = NULL;
        if (why == 3)
            exec->shared_bytes = 99 << 10;
        if (why == 4)
            b.ldx = 9;
        assert_int_equal(emb_cuda_gemm_sm90(exec, &b), why == 0 ? EMBED_OK : EMBED_ERR_INTERNAL);
        cuda_worked("any kernel", emb_cuda_gemm(exec, &b));
        cuda_worked("the other kernel", emb_cuda_gemm_mma(exec, &b));
    }
    a.dtype = EMBED_F32;
    assert_int_equal(emb_cuda_gemm_sm90(gemm_case_exec(&(gemm_case){.sm90 = 1}), &a),
                     EMBED_ERR_INTERNAL);
    cuda_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tile_edges_agree_with_double),
        cmocka_unit_test(groups_take_the_rows_the_device_says),
        cmocka_unit_test(sixty_four_groups_of_random_sizes),
        cmocka_unit_test(a_row_is_the_same_in_every_product),
        cmocka_unit_test(the_count_is_the_device_s),
        cmocka_unit_test(what_it_does_not_take_goes_the_other_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

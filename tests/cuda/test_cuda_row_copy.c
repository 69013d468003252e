/* row_copy against its reference: every alignment, lengths around the widths of the loads, rows
 * that nobody asked for left alone. */
#include "cuda/cuda_case.h"

#include "kernels/row_copy/row_copy.h"
#include "kernels/row_copy/row_copy_cuda.h"

enum { MOST = 19, STRIDE = 112 };

static void run(int64_t rows, int64_t bytes, size_t from_shift, size_t to_shift, int based) {
    uint64_t seed = (uint64_t)(rows * 131 + bytes);
    unsigned char *from = cuda_normals(&seed, (MOST + 1) * STRIDE / 4, 1.0, EMBED_F32, NULL);
    unsigned char *got = cuda_output((MOST + 1) * STRIDE), *want = cuda_output((MOST + 1) * STRIDE);
    uint64_t places[2 * MOST], want_places[2 * MOST];
    for (int64_t i = 0; i < rows; i++) { /* row i comes to stand as row 7 i + 3 mod MOST */
        const uint64_t at = (uint64_t)i * STRIDE + from_shift,
                       to = (uint64_t)((7 * i + 3) % MOST) * STRIDE + to_shift;
        places[2 * i] = want_places[2 * i] = based ? at : at + (uint64_t)(uintptr_t)from;
        places[2 * i + 1] = to + (uint64_t)(uintptr_t)got;
        want_places[2 * i + 1] = to + (uint64_t)(uintptr_t)want;
    }
    const emb_cuda_row_copy_args a = {based ? from : NULL, cuda_copy(places, sizeof places), rows,
                                      bytes};
    emb_emulation_seed(seed);
    cuda_worked("row_copy", emb_cuda_row_copy(cuda_exec(), &a));
    emb_row_copy(based ? from : NULL, want_places, rows, bytes);
    cuda_same("row_copy", got, want, (MOST + 1) * STRIDE);
    cuda_case_end();
}

static void shapes(void **state) {
    (void)state;
    static const int64_t bytes[] = {1, 3, 4, 15, 16, 17, 32, 36, 64, 96};
    for (size_t b = 0; b < sizeof bytes / sizeof bytes[0]; b++)
        for (int64_t rows = 0; rows <= MOST; rows = rows < 2 ? rows + 1 : rows * 2 + 3 - rows / 8)
            run(rows, bytes[b], 0, 0, rows & 1);
}

static void alignments(void **state) {
    (void)state;
    for (size_t from = 0; from <= 8; from += from < 4 ? 1 : 4)
        for (size_t to = 0; to <= 8; to += to < 4 ? 1 : 4)
            run(5, 96, from, to, 1);
}

static void limits(void **state) {
    (void)state;
    const emb_cuda_row_copy_args wrong[] = {{NULL, NULL, -1, 16}, {NULL, NULL, 1, 0}};
    for (size_t i = 0; i < 2; i++) {
        emb_cuda_exec *exec = cuda_exec();
        assert_int_equal(emb_cuda_row_copy(exec, &wrong[i]), EMBED_ERR_INTERNAL);
        assert_non_null(exec->failed);
    }
    cuda_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(alignments),
                                       cmocka_unit_test(limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

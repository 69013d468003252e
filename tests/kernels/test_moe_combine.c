#include "support/everywhere.h"

#include "kernels/moe_combine/moe_combine.h"

static void run(emb_exec *exec, void *arg, float *out) {
    emb_moe_combine_args a = *(const emb_moe_combine_args *)arg;
    a.y = out;
    assert_int_equal(emb_moe_combine(exec, &a), EMBED_OK);
}

static void sums_agree_with_double_everywhere(void **state) {
    (void)state;
    static const int64_t tokens[] = {0, 1, 5, 301};
    static const int64_t dims[] = {1, 15, 16, 17, 97, 768};
    uint64_t seed = 4;
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof dims / sizeof *dims; j++)
            for (int32_t k = 1; k <= 3; k++) {
                const int64_t T = tokens[i], D = dims[j];
                const size_t pairs = (size_t)(T * k), n = (size_t)(T * D);
                float *o = test_normals(&seed, pairs * (size_t)D, 1.0);
                float *gate = test_normals(&seed, pairs, 0.5);
                float *bias = test_normals(&seed, (size_t)D, 1.0);
                float *out = malloc(n * sizeof *out + 1);
                double *want = malloc(n * sizeof *want + 1);
                int32_t *slot = malloc(pairs * sizeof *slot + 1);
                assert_true(out != NULL && want != NULL && slot != NULL);
                for (size_t s = 0; s < pairs; s++)
                    slot[s] = (int32_t)(pairs - 1 - s);
                emb_moe_combine_args a = {o, gate, k == 2 ? NULL : bias, slot, NULL, T, D, k, 0};
                for (int64_t t = 0; t < T; t++)
                    for (int64_t d = 0; d < D; d++) {
                        double sum = a.bias ? (double)bias[d] : 0;
                        for (int64_t q = t * k; q < (t + 1) * k; q++)
                            sum += (double)gate[q] * (double)o[slot[q] * D + d];
                        want[t * D + d] = sum;
                    }
                test_everywhere(&(test_op){"moe_combine", run, NULL, &a, n}, out);
                test_close("moe_combine", out, want, n, 1e-6, 1e-6);
                free(o);
                free(gate);
                free(bias);
                free(out);
                free(want);
                free(slot);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_agree_with_double_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

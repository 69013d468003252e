/* Which GPUs a list of architectures runs on. */
#include "support/test.h"

#include "cuda_module/cuda_arch.h"

static void architectures(void **state) {
    (void)state;
    static const char ours[] = "80-real,89-real,90-real,90a-real,100-real,120";
    const struct {
        const char *archs;
        int32_t major, minor;
        int runs;
    } cases[] = {{ours, 8, 0, 1},         {ours, 8, 6, 1},
                 {ours, 8, 9, 1},         {ours, 7, 5, 0},
                 {ours, 9, 0, 1},         {ours, 10, 0, 1},
                 {ours, 10, 3, 1},        {ours, 11, 0, 0},
                 {ours, 12, 0, 1},        {ours, 12, 1, 1},
                 {ours, 13, 0, 1}, /* by the PTX of 120 */
                 {"89-real", 8, 6, 0},    {"89-real", 9, 0, 0},
                 {"90a-real", 9, 0, 0}, /* some kernels only */
                 {"80-virtual", 8, 0, 1}, {"80-virtual", 9, 0, 1},
                 {"80-virtual", 7, 5, 0}, {"80", 12, 0, 1},
                 {"", 9, 0, 0},           {"x", 9, 0, 0},
                 {"90-real,", 9, 0, 1},   {"120,80-real", 8, 0, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (emb_cuda_arch_runs(cases[i].archs, cases[i].major, cases[i].minor) != cases[i].runs)
            fail_msg("%s on %d.%d: expected %d", cases[i].archs, cases[i].major, cases[i].minor,
                     cases[i].runs);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(architectures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The suite that GPUs must pass, on fake devices in many orders. */
#include "support/test.h"

#include "cuda_module/cuda_kernels.h"
#include "device/fake_device.h"
#include "gpu/device_suite.h"

/* As the kernel of this name in src/cuda_module/cuda_kernels.cu. */
static void probe(const emb_launch *l) {
    const emb_probe_args *a = l->args;
    for (uint32_t i = 0; i < a->n; i++)
        ((uint32_t *)(uintptr_t)a->out.at)[i] = a->first + i;
}

static const uint16_t pointers[] = {offsetof(emb_probe_args, out)};
static const emb_kernel_entry kernels[] = {
    {"device_probe", (void (*)(void))probe, sizeof(emb_probe_args), 0, pointers, 1, 0}};

static void run(uint64_t seed, int32_t ranks) {
    const emb_env env = test_env();
    const emb_fake_params params = {.devices = ranks,
                                    .seed = seed,
                                    .memory_bytes = (uint64_t)1 << 30,
                                    .kernels = kernels,
                                    .n_kernels = 1};
    emb_fake *fake;
    assert_int_equal(emb_fake_create(&fake, &env, &params), EMBED_OK);
    device_suite s = {.env = &env,
                      .backend = emb_fake_backend(fake),
                      .device = ranks - 1,
                      .ranks = ranks,
                      .quiet = 1};
    device_suite_run(&s, 0);
    assert_string_equal(emb_fake_fault(fake), "");
    device_suite_run(&s, 1);
    assert_int_equal(s.failed, 0);
    assert_int_equal(s.skipped, 0);
    assert_true(s.passed >= 17);
    assert_int_equal(emb_fake_live(fake), 0);
    emb_fake_free(fake);
}

static void suite(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++)
        run(seed, 1 + (int32_t)seed % 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(suite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

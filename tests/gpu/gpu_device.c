/* The device suite on every usable GPU. usage: gpu_device [MODULE]. One line a check; exit status 0
 * if all passed or there is no GPU, which is then said. */
#include <stdio.h>

#include "device/module.h"
#include "gpu/device_suite.h"

/* A device that was lost stays so for the process: the last of them all is. */
static int run_all(const emb_backend *b, const emb_env *env, int32_t devices) {
    int32_t passed = 0, failed = 0, skipped = 0;
    for (int32_t i = 0; i < devices; i++) {
        emb_device_facts facts;
        emb_device_error err = {""};
        device_suite s = {.env = env, .backend = b, .device = i, .ranks = i == 0 ? devices : 0};
        if (b->describe(b->self, i, &facts, &err) != EMB_DEVICE_OK || !facts.usable) {
            printf("cuda:%d is not usable: %s%s\n", i, err.text, facts.reason);
            continue;
        }
        printf("cuda:%d %s\n", i, facts.name);
        device_suite_run(&s, i == devices - 1);
        passed += s.passed;
        failed += s.failed;
        skipped += s.skipped;
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed > 0;
}

int main(int argc, char **argv) {
    emb_module m;
    emb_env env;
    emb_device_error err = {""};
    int32_t devices = 0;
    if (emb_env_init(&env, NULL, NULL, NULL) != EMBED_OK ||
        emb_module_open(&m, argc > 1 ? argv[1] : NULL) != EMBED_OK) {
        printf("no GPU was tested: %s\n", embed_last_error());
        return argc > 1;
    }
    int code = 0;
    if (m.backend->count(m.backend->self, &devices, &err) != EMB_DEVICE_OK)
        printf("no GPU was tested: %s\n", err.text);
    else
        code = run_all(m.backend, &env, devices);
    emb_module_close(&m);
    return code;
}

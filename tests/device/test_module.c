/* Modules that are missing, of another version, without a driver; and the list of devices. */
#include "support/files.h"

#include "device/device_list.h"
#include "device/module.h"

static const char *path_of(const char *name) {
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/libmodule_%s.so", TEST_MODULES_DIR, name);
    return path;
}

static void good_module(void **state) {
    (void)state;
    emb_module m, again;
    assert_int_equal(emb_module_open(&m, path_of("good")), EMBED_OK);
    assert_string_equal(m.backend->name, "test");
    assert_int_equal(emb_module_open(&again, path_of("good")), EMBED_OK);
    assert_ptr_equal(m.backend, again.backend);
    emb_module_close(&m);
    emb_module_close(&m);
    emb_module_close(&again);
}

static void refused(void **state) {
    (void)state;
    char ours[64];
    emb_module m;
    (void)snprintf(ours, sizeof ours, "%d.%d.%d with interface %u", EMBED_VERSION_MAJOR,
                   EMBED_VERSION_MINOR, EMBED_VERSION_PATCH, EMB_BACKEND_ABI);
    const struct {
        const char *name, *texts[3];
    } cases[] = {{"missing", {"libmodule_missing.so", "cannot open", ""}},
                 {"abi", {ours, "with interface 4711", "libmodule_abi.so"}},
                 {"version", {ours, "found version 7.8.9", "install both from one build"}},
                 {"entry", {"no function embed_backend_open", "libmodule_entry.so", ""}},
                 {"refuses", {"libmodule_refuses.so", "refuses interface", ""}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        embed_device d;
        int32_t n = 0;
        assert_int_equal(emb_module_open(&m, path_of(cases[i].name)), EMBED_ERR_DEVICE);
        assert_null(m.handle);
        assert_null(m.backend);
        for (int j = 0; j < 3; j++)
            if (strstr(embed_last_error(), cases[i].texts[j]) == NULL)
                fail_msg("expected '%s' in '%s'", cases[i].texts[j], embed_last_error());
        /* The list tells it in the place of the devices. */
        assert_int_equal(emb_device_list_count(path_of(cases[i].name), &n), EMBED_OK);
        assert_int_equal(n, 2);
        assert_int_equal(emb_device_list_get(path_of(cases[i].name), 1, &d), EMBED_OK);
        assert_int_equal(d.kind, EMBED_DEVICE_CUDA);
        assert_int_equal(d.index, -1);
        assert_int_equal(d.usable, 0);
        assert_non_null(strstr(d.reason, "libmodule_"));
        assert_null(strstr(d.reason, "EMBED_ERR"));
    }
}

/* A copy that ended early, or a full disk: wherever the file stops, it is refused. */
static void cut_short(void **state) {
    (void)state;
    char dir[256];
    static unsigned char whole[1 << 20];
    FILE *file = fopen(path_of("good"), "rb");
    assert_non_null(file);
    const size_t size = fread(whole, 1, sizeof whole, file);
    assert_int_equal(fclose(file), 0);
    assert_true(size > 4096 && size < sizeof whole);
    test_dir_make(dir);
    const size_t cuts[] = {0, 1, 63, 64, 100, 1000, 4096, 4097, size / 2, size - 4096, size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        emb_module m;
        char name[32];
        (void)snprintf(name, sizeof name, "cut%zu.so", i);
        test_write(dir, name, whole, (long)cuts[i]);
        assert_int_equal(emb_module_open(&m, test_path(dir, name)), EMBED_ERR_DEVICE);
        assert_null(m.handle);
        assert_non_null(strstr(embed_last_error(), name));
    }
    test_dir_remove(dir);
}

static void no_driver(void **state) {
    (void)state;
    embed_device d;
    int32_t n = 0;
    assert_int_equal(emb_device_list_count(path_of("no_driver"), &n), EMBED_OK);
    assert_int_equal(n, 2);
    assert_int_equal(emb_device_list_get(path_of("no_driver"), 1, &d), EMBED_OK);
    assert_string_equal(d.reason, "no driver: nothing drives anything here");
    assert_int_equal(emb_device_list_get(path_of("no_driver"), 2, &d), EMBED_ERR_ARG);
}

static void devices(void **state) {
    (void)state;
    embed_device d;
    int32_t n = 0;
    assert_int_equal(emb_device_list_count(path_of("good"), &n), EMBED_OK);
    assert_int_equal(n, 4);
    assert_int_equal(emb_device_list_get(path_of("good"), 1, &d), EMBED_OK);
    assert_int_equal(d.index, 0);
    assert_int_equal(d.usable, 1);
    assert_int_equal(d.capability_major, 9);
    assert_int_equal(d.driver, 13000);
    assert_int_equal(d.memory_free, 900);
    assert_string_equal(d.reason, "");
    assert_int_equal(emb_device_list_get(path_of("good"), 2, &d), EMBED_OK);
    assert_int_equal(d.usable, 0);
    assert_string_equal(d.reason, "no code for it");
    assert_int_equal(emb_device_list_get(path_of("good"), 3, &d), EMBED_OK);
    assert_int_equal(d.usable, 0);
    assert_int_equal(d.index, 2);
    assert_string_equal(d.reason, "it does not answer");
    assert_int_equal(emb_device_list_get(path_of("good"), 4, &d), EMBED_ERR_ARG);
    assert_int_equal(emb_device_list_get(path_of("good"), -1, &d), EMBED_ERR_ARG);
}

/* The public calls: the CPU is always there, and every unusable entry says why. */
static void public_calls(void **state) {
    (void)state;
    struct {
        embed_device d;
        uint64_t newer;
    } grown;
    int32_t n = 0;
    assert_int_equal(embed_device_count(NULL), EMBED_ERR_ARG);
    assert_int_equal(embed_device_info(0, NULL), EMBED_ERR_ARG);
    assert_int_equal(embed_device_count(&n), EMBED_OK);
    assert_true(n >= 2);
    for (int32_t i = 0; i < n; i++) {
        embed_device d = {.struct_size = sizeof d};
        assert_int_equal(embed_device_info(i, &d), EMBED_OK);
        assert_int_equal(d.struct_size, sizeof d);
        assert_int_equal(d.kind, i == 0 ? EMBED_DEVICE_CPU : EMBED_DEVICE_CUDA);
        assert_true(d.usable ? d.reason[0] == '\0' : d.reason[0] != '\0');
        assert_true(d.name[0] != '\0');
        assert_true(i > 0 || (d.usable && d.processors > 0 && d.memory_total > 0));
    }
    memset(&grown, 0xff, sizeof grown);
    grown.d.struct_size = sizeof grown; /* a caller with a newer header */
    assert_int_equal(embed_device_info(0, &grown.d), EMBED_OK);
    assert_int_equal(grown.newer, 0);
    grown.d.struct_size = 0;
    assert_int_equal(embed_device_info(0, &grown.d), EMBED_ERR_ABI);
    grown.d.struct_size = sizeof grown.d;
    assert_int_equal(embed_device_info(n, &grown.d), EMBED_ERR_ARG);
    assert_int_equal(embed_device_info(-1, &grown.d), EMBED_ERR_ARG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_module), cmocka_unit_test(refused), cmocka_unit_test(cut_short),
        cmocka_unit_test(no_driver),   cmocka_unit_test(devices), cmocka_unit_test(public_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The fake device finds what it is there to find: memory. */
#include "support/test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/fake_kernels.h"

#define N 100

static void expect_fault(const fake_setup *s, embed_status st, const char *text) {
    assert_int_equal(st, EMBED_ERR_INTERNAL);
    if (strstr(emb_fake_fault(s->fake), text) == NULL)
        fail_msg("expected a fault with '%s', found '%s'", text, emb_fake_fault(s->fake));
    assert_non_null(strstr(embed_last_error(), text));
    assert_false(emb_device_alive(s->device));
    /* and from now on nothing works, but nothing hangs either */
    emb_dptr p;
    assert_int_equal(emb_device_alloc(s->device, 8, &p), EMBED_ERR_DEVICE);
    assert_non_null(strstr(embed_last_error(), text));
    assert_int_equal(emb_stream_sync(s->stream), EMBED_ERR_DEVICE);
}

/* Round trip through two buffers and a kernel, for several seeds. */
static void copies_and_kernels(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        fake_setup s;
        float *host;
        emb_dptr a, b;
        fake_setup_make(&s, seed);
        assert_int_equal(emb_device_host_alloc(s.device, 2 * N * sizeof *host, (void **)&host),
                         EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, N * sizeof *host, &a), EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, N * sizeof *host, &b), EMBED_OK);
        assert_int_equal(a.at % EMB_DEVICE_ALIGN, 0);
        for (int i = 0; i < N; i++)
            host[i] = (float)i;
        const fake_kernel_args args = {a, b, N, 2, 1, 0};
        assert_int_equal(emb_copy_in(s.stream, a, host, N * sizeof *host), EMBED_OK);
        assert_int_equal(fake_kernel_run(s.stream, "scale", &args), EMBED_OK);
        assert_int_equal(emb_set_device(s.stream, a, 0, 4), EMBED_OK);
        assert_int_equal(emb_copy_device(s.stream, emb_dptr_add(b, 4), a, 4), EMBED_OK);
        assert_int_equal(emb_copy_out(s.stream, host + N, b, N * sizeof *host), EMBED_OK);
        assert_int_equal(emb_stream_sync(s.stream), EMBED_OK);
        for (int i = 0; i < N; i++)
            assert_true(host[N + i] == (i == 1 ? 0.0f : (float)(2 * i + 1)));
        assert_string_equal(emb_fake_fault(s.fake), "");
        assert_int_equal(emb_fake_peak_bytes(s.fake), 2 * N * sizeof *host);
        emb_device_free(s.device, a);
        emb_device_free(s.device, b);
        emb_device_host_free(s.device, host);
        fake_setup_free(&s);
    }
}

static void writes_outside_allocation(void **state) {
    (void)state;
    const struct {
        int64_t at;
        const char *text;
    } cases[] = {{N, "reach wrote outside an allocation"}, {-1, "reach wrote outside"}};
    for (size_t i = 0; i < 2; i++) {
        fake_setup s;
        emb_dptr p;
        fake_setup_make(&s, i);
        assert_int_equal(emb_device_alloc(s.device, N * 4, &p), EMBED_OK);
        const fake_kernel_args args = {p, p, N, 0, 1, cases[i].at};
        (void)fake_kernel_run(s.stream, "reach", &args);
        expect_fault(&s, emb_stream_sync(s.stream), cases[i].text);
        emb_device_free(s.device, p);
        fake_setup_free(&s);
    }
}

/* One arena of three regions, of which the first and the last share bytes. */
enum { FIRST, SECOND, THIRD, REGIONS };
static const emb_arena_region plan[REGIONS] = {
    {"first", N * 4, 0, 1, 0}, {"second", N * 4, 1, 2, 0}, {"third", N * 4, 2, 3, 0}};

static void writes_outside_region(void **state) {
    (void)state;
    const struct {
        int64_t at;
        const char *text;
    } cases[] = {{N, "reach wrote past region second"},
                 {N + 63, "reach wrote past region second"},
                 {-1, "reach wrote before region second"}};
    for (size_t i = 0; i < 3; i++) {
        fake_setup s;
        emb_arena arena;
        fake_setup_make(&s, i);
        assert_int_equal(emb_arena_create(&arena, s.device, plan, REGIONS), EMBED_OK);
        assert_int_equal(arena.regions[FIRST].offset, arena.regions[THIRD].offset);
        assert_int_equal(emb_arena_begin(&arena, s.stream, SECOND), EMBED_OK);
        const fake_kernel_args args = {
            emb_arena_at(&arena, SECOND), emb_arena_at(&arena, SECOND), N, 0, 1, cases[i].at};
        (void)fake_kernel_run(s.stream, "reach", &args);
        expect_fault(&s, emb_stream_sync(s.stream), cases[i].text);
        emb_arena_free(&arena);
        fake_setup_free(&s);
    }
}

/* What a dead region held is gone, and its bytes cannot be reached through it. */
static void reused_bytes(void **state) {
    (void)state;
    fake_setup s;
    emb_arena arena;
    float *host;
    fake_setup_make(&s, 0);
    assert_int_equal(emb_device_host_alloc(s.device, N * 4, (void **)&host), EMBED_OK);
    memset(host, 0, N * 4);
    assert_int_equal(emb_arena_create(&arena, s.device, plan, REGIONS), EMBED_OK);
    assert_int_equal(emb_arena_begin(&arena, s.stream, FIRST), EMBED_OK);
    assert_int_equal(emb_copy_in(s.stream, emb_arena_at(&arena, FIRST), host, N * 4), EMBED_OK);
    assert_int_equal(emb_copy_out(s.stream, host, emb_arena_at(&arena, FIRST), N * 4), EMBED_OK);
    assert_int_equal(emb_stream_sync(s.stream), EMBED_OK);
    assert_int_equal(emb_arena_begin(&arena, s.stream, THIRD), EMBED_OK);
    (void)emb_copy_out(s.stream, host, emb_arena_at(&arena, FIRST), N * 4);
    expect_fault(&s, emb_stream_sync(s.stream), "never written");
    emb_arena_free(&arena);
    emb_device_host_free(s.device, host);
    fake_setup_free(&s);
}

static void uninitialised(void **state) {
    (void)state;
    for (int kernel = 0; kernel < 2; kernel++) {
        fake_setup s;
        emb_dptr a, b;
        float *host;
        fake_setup_make(&s, 0);
        assert_int_equal(emb_device_host_alloc(s.device, N * 4, (void **)&host), EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, N * 4, &a), EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, N * 4, &b), EMBED_OK);
        const fake_kernel_args args = {a, b, N, 2, 1, 0};
        if (kernel) { /* computed from what was never written: NaN */
            assert_int_equal(fake_kernel_run(s.stream, "scale", &args), EMBED_OK);
            float out;
            assert_true(emb_fake_peek(s.fake, b, &out, sizeof out));
            assert_true(isnan(out));
        } else {
            assert_int_equal(emb_set_device(s.stream, a, 0, N * 4 - 8), EMBED_OK);
            (void)emb_copy_out(s.stream, host, a, N * 4);
            expect_fault(&s, emb_stream_sync(s.stream), "byte 392 of 400 was never written");
        }
        emb_device_free(s.device, a);
        emb_device_free(s.device, b);
        emb_device_host_free(s.device, host);
        fake_setup_free(&s);
    }
}

/* Host pointers where device addresses are due, and the other way round. */
static void wrong_pointers(void **state) {
    (void)state;
    static float host[N];
    for (int wrong = 0; wrong < 6; wrong++) {
        static const char *const texts[] = {"no memory of this device",
                                            "is not pinned",
                                            "is not pinned",
                                            "no memory of this device",
                                            "no memory of this device",
                                            "no memory of this device"};
        fake_setup s;
        emb_dptr p, mine = {(uint64_t)(uintptr_t)host};
        void *pinned;
        fake_setup_make(&s, 3);
        assert_int_equal(emb_device_host_alloc(s.device, N * 4, &pinned), EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, N * 4, &p), EMBED_OK);
        const fake_kernel_args args = {mine, p, N, 2, 1, 0};
        if (wrong == 0)
            (void)emb_set_device(s.stream, mine, 0, 4);
        else if (wrong == 1)
            (void)emb_copy_in(s.stream, p, host, 4);
        else if (wrong == 2)
            (void)emb_copy_out(s.stream, (void *)(uintptr_t)p.at, p, 4);
        else if (wrong == 3)
            (void)fake_kernel_run(s.stream, "scale", &args);
        else if (wrong == 4) /* one byte too many */
            (void)emb_set_device(s.stream, emb_dptr_add(p, 1), 0, N * 4);
        else
            (void)emb_copy_device(s.stream, p, (emb_dptr){0}, 4);
        if (emb_device_alive(s.device))
            expect_fault(&s, emb_stream_sync(s.stream), texts[wrong]);
        assert_non_null(strstr(emb_fake_fault(s.fake), texts[wrong]));
        emb_device_free(s.device, p);
        emb_device_host_free(s.device, pinned);
        fake_setup_free(&s);
    }
}

/* A host that follows a device pointer dies of it. */
static void host_reads_device(void **state) {
    (void)state;
    fake_setup s;
    emb_dptr p;
    int how;
    fake_setup_make(&s, 1);
    assert_int_equal(emb_device_alloc(s.device, 64, &p), EMBED_OK);
    assert_int_equal(emb_set_device(s.stream, p, 0, 64), EMBED_OK);
    assert_int_equal(emb_stream_sync(s.stream), EMBED_OK);
    const pid_t child = fork();
    if (child == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        volatile const int *device = (const int *)(uintptr_t)p.at;
        _exit(*device == 0 ? 1 : 2);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGSEGV);
    emb_device_free(s.device, p);
    fake_setup_free(&s);
}

static void host_mapping(void **state) {
    (void)state;
    fake_setup s;
    emb_dptr p, in;
    float out;
    fake_setup_make(&s, 2);
    float *host = aligned_alloc(4096, 4096);
    assert_non_null(host);
    host[0] = 3;
    assert_int_equal(emb_device_alloc(s.device, 4, &p), EMBED_OK);
    assert_int_equal(emb_device_host_map(s.device, host, 4096, &in), EMBED_OK);
    const fake_kernel_args args = {in, p, 1, 2, 1, 0};
    assert_int_equal(fake_kernel_run(s.stream, "scale", &args), EMBED_OK);
    assert_true(emb_fake_peek(s.fake, p, &out, sizeof out));
    assert_true(out == 7.0f);
    emb_device_host_unmap(s.device, host);
    (void)fake_kernel_run(s.stream, "scale", &args);
    expect_fault(&s, emb_stream_sync(s.stream), "no memory of this device");
    emb_device_free(s.device, p);
    free(host);
    fake_setup_free(&s);
}

static void out_of_memory(void **state) {
    (void)state;
    const emb_env env = test_env();
    const emb_fake_params params = {.memory_bytes = 1000};
    emb_fake *fake;
    emb_device *d;
    emb_dptr a, b;
    assert_int_equal(emb_fake_create(&fake, &env, &params), EMBED_OK);
    assert_int_equal(emb_device_open(&d, &env, emb_fake_backend(fake), 0), EMBED_OK);
    assert_int_equal(emb_device_alloc(d, 600, &a), EMBED_OK);
    assert_int_equal(emb_device_alloc(d, 600, &b), EMBED_ERR_NOMEM);
    assert_non_null(strstr(embed_last_error(), "expected 600 bytes, found 400 of 1000 free"));
    assert_int_equal(b.at, 0);
    assert_true(emb_device_alive(d)); /* smaller is fine */
    assert_int_equal(emb_device_alloc(d, 400, &b), EMBED_OK);
    emb_device_free(d, a);
    emb_device_free(d, b);
    emb_device_close(d);
    assert_int_equal(emb_fake_live(fake), 0);
    emb_fake_free(fake);
}

/* What was forgotten is told. */
static void leaks_are_counted(void **state) {
    (void)state;
    fake_setup s;
    emb_dptr p;
    fake_setup_make(&s, 0);
    assert_int_equal(emb_device_alloc(s.device, 64, &p), EMBED_OK);
    emb_stream_free(s.stream);
    emb_device_close(s.device);
    assert_int_equal(emb_fake_live(s.fake), 1);
    emb_fake_free(s.fake);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_and_kernels),    cmocka_unit_test(writes_outside_allocation),
        cmocka_unit_test(writes_outside_region), cmocka_unit_test(reused_bytes),
        cmocka_unit_test(uninitialised),         cmocka_unit_test(wrong_pointers),
        cmocka_unit_test(host_reads_device),     cmocka_unit_test(host_mapping),
        cmocka_unit_test(out_of_memory),         cmocka_unit_test(leaks_are_counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Plans of arenas: regions alive together never meet, the others share. */
#include "support/test.h"

#include "support/fake_kernels.h"

static size_t guarded_end(const emb_arena_region *r, size_t guard) {
    return r->offset + emb_round_up(r->bytes, EMB_DEVICE_ALIGN) + guard;
}

static void check_plan(const emb_arena_region *r, size_t n, size_t guard, size_t bytes) {
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(r[i].offset % EMB_DEVICE_ALIGN, 0);
        assert_true(r[i].bytes == 0 || r[i].offset >= guard);
        assert_true(r[i].bytes == 0 || guarded_end(&r[i], guard) <= bytes);
        for (size_t j = 0; j < i; j++) {
            const int together = r[i].first <= r[j].last && r[j].first <= r[i].last;
            const int apart = guarded_end(&r[i], guard) <= r[j].offset ||
                              guarded_end(&r[j], guard) <= r[i].offset;
            assert_true(!together || apart || r[i].bytes == 0 || r[j].bytes == 0);
        }
    }
}

static void random_plans(void **state) {
    (void)state;
    uint64_t random = 5;
    for (int round = 0; round < 500; round++) {
        emb_arena_region r[EMB_ARENA_REGIONS];
        const size_t n = test_rand(&random) % (EMB_ARENA_REGIONS + 1);
        const size_t guard = round % 3 == 0 ? 0 : round % 3 == 1 ? 256 : 300;
        size_t bytes, sum = 0, most = 0;
        for (size_t i = 0; i < n; i++) {
            const int32_t first = (int32_t)(test_rand(&random) % 10);
            r[i] = (emb_arena_region){"r", test_rand(&random) % 5000, first,
                                      first + (int32_t)(test_rand(&random) % 4), 0};
            if (test_rand(&random) % 8 == 0)
                r[i].bytes = 0;
        }
        const size_t rounded = emb_round_up(guard, EMB_DEVICE_ALIGN);
        assert_int_equal(emb_arena_plan(r, n, guard, &bytes), EMBED_OK);
        check_plan(r, n, rounded, bytes);
        for (size_t i = 0; i < n; i++)
            if (r[i].bytes > 0)
                sum += emb_round_up(r[i].bytes, EMB_DEVICE_ALIGN) + rounded;
        for (int32_t step = 0; step < 14; step++) { /* no plan can do with less */
            size_t alive = 0;
            for (size_t i = 0; i < n; i++)
                if (r[i].bytes > 0 && r[i].first <= step && step <= r[i].last)
                    alive += emb_round_up(r[i].bytes, EMB_DEVICE_ALIGN) + rounded;
            most = alive > most ? alive : most;
        }
        assert_true(sum == 0 ? bytes == 0 : bytes >= most + rounded && bytes <= sum + rounded);
    }
}

static void shares_bytes(void **state) {
    (void)state;
    emb_arena_region r[] = {{"a", 1000, 0, 1, 0}, {"b", 500, 1, 2, 0}, {"c", 900, 2, 3, 0}};
    size_t bytes;
    assert_int_equal(emb_arena_plan(r, 3, 0, &bytes), EMBED_OK);
    assert_int_equal(r[0].offset, 0);
    assert_int_equal(r[2].offset, 0);
    assert_int_equal(r[1].offset, 1024);
    assert_int_equal(bytes, 1024 + 512);
}

static void refusals(void **state) {
    (void)state;
    emb_arena_region many[EMB_ARENA_REGIONS + 1] = {{"a", 1, 0, 0, 0}};
    emb_arena_region huge[] = {{"huge", SIZE_MAX - 10, 0, 0, 0}},
                     two[] = {{"x", SIZE_MAX / 2 + 1, 0, 0, 0}, {"y", SIZE_MAX / 2, 0, 0, 0}},
                     back[] = {{"back", 1, 2, 1, 0}};
    size_t bytes;
    assert_int_equal(emb_arena_plan(many, EMB_ARENA_REGIONS + 1, 0, &bytes), EMBED_ERR_INTERNAL);
    assert_int_equal(emb_arena_plan(huge, 1, 0, &bytes), EMBED_ERR_NOMEM);
    assert_non_null(strstr(embed_last_error(), "huge"));
    assert_int_equal(emb_arena_plan(two, 2, 0, &bytes), EMBED_ERR_NOMEM);
    assert_int_equal(emb_arena_plan(back, 1, 0, &bytes), EMBED_ERR_INTERNAL);
    assert_int_equal(emb_arena_plan(NULL, 0, 0, &bytes), EMBED_OK);
    assert_int_equal(bytes, 0);
}

/* Weights belong to the model's handle, arenas to the contexts': one device, several handles. */
static void handles_share_memory(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        fake_setup s;
        emb_device *other;
        emb_stream *stream;
        emb_dptr weights, p;
        float out;
        fake_setup_make(&s, seed);
        assert_int_equal(emb_device_open(&other, &s.env, emb_fake_backend(s.fake), 0), EMBED_OK);
        assert_int_equal(emb_stream_create(&stream, other), EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, 4, &weights), EMBED_OK);
        assert_int_equal(emb_device_alloc(other, 4, &p), EMBED_OK);
        assert_int_equal(emb_set_device(s.stream, weights, 0, 4), EMBED_OK);
        assert_int_equal(emb_stream_sync(s.stream), EMBED_OK);
        const fake_kernel_args args = {weights, p, 1, 1, 3, 0};
        assert_int_equal(fake_kernel_run(stream, "scale", &args), EMBED_OK);
        assert_true(emb_fake_peek(s.fake, p, &out, sizeof out));
        assert_true(out == 3.0f);
        assert_string_equal(emb_fake_fault(s.fake), "");
        emb_device_free(other, p);
        emb_stream_free(stream);
        emb_device_close(other);
        emb_device_free(s.device, weights);
        fake_setup_free(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_plans),
                                       cmocka_unit_test(shares_bytes), cmocka_unit_test(refusals),
                                       cmocka_unit_test(handles_share_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

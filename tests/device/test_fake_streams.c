/* Streams, events and graphs on the fake device: legal orders only, and a missing wait shows. */
#include "support/test.h"

#include "device/upload.h"
#include "support/fake_kernels.h"

#define N 64
#define SEEDS 40

/* Two streams: the first computes b = 2 a, the second c = b + 1, with the wait or without. Returns
 * 1 if the result was right. */
static int two_streams(uint64_t seed, int with_wait) {
    fake_setup s;
    emb_stream *second;
    emb_event *ready;
    emb_dptr p[3];
    float out = 0;
    int right = 1;
    fake_setup_make(&s, seed);
    assert_int_equal(emb_stream_create(&second, s.device), EMBED_OK);
    assert_int_equal(emb_event_create(&ready, s.device, 0), EMBED_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(emb_device_alloc(s.device, N * 4, &p[i]), EMBED_OK);
    assert_int_equal(emb_set_device(s.stream, p[0], 0, N * 4), EMBED_OK);
    const fake_kernel_args twice = {p[0], p[1], N, 2, 4, 0}, more = {p[1], p[2], N, 1, 1, 0};
    assert_int_equal(fake_kernel_run(s.stream, "scale", &twice), EMBED_OK);
    if (with_wait) {
        assert_int_equal(emb_event_record(ready, s.stream), EMBED_OK);
        assert_int_equal(emb_stream_wait(second, ready), EMBED_OK);
    }
    assert_int_equal(fake_kernel_run(second, "scale", &more), EMBED_OK);
    assert_int_equal(emb_stream_sync(second), EMBED_OK);
    assert_true(emb_fake_peek(s.fake, p[2], &out, sizeof out));
    right = out == 5.0f;
    assert_string_equal(emb_fake_fault(s.fake), "");
    for (int i = 0; i < 3; i++)
        emb_device_free(s.device, p[i]);
    emb_event_free(ready);
    emb_stream_free(second);
    fake_setup_free(&s);
    return right;
}

static void missing_wait_shows(void **state) {
    (void)state;
    int wrong = 0, first = -1;
    for (int seed = 0; seed < SEEDS; seed++) {
        assert_true(two_streams((uint64_t)seed, 1));
        if (!two_streams((uint64_t)seed, 0)) {
            wrong++;
            first = first < 0 ? seed : first;
        }
    }
    printf("a missing wait shows with %d of %d seeds, first %d\n", wrong, SEEDS, first);
    assert_true(first >= 0 && first < 4);
    assert_true(wrong >= SEEDS / 4);
}

/* Pinned memory that is filled again before its copy ran. */
static int staging(uint64_t seed, int with_wait) {
    fake_setup s;
    emb_event *copied;
    emb_dptr p;
    float *slot, out[8];
    int right = 1;
    fake_setup_make(&s, seed);
    assert_int_equal(emb_event_create(&copied, s.device, 0), EMBED_OK);
    assert_int_equal(emb_device_alloc(s.device, sizeof out, &p), EMBED_OK);
    assert_int_equal(emb_device_host_alloc(s.device, sizeof *slot, (void **)&slot), EMBED_OK);
    for (size_t i = 0; i < 8; i++) {
        if (with_wait)
            assert_int_equal(emb_event_sync(copied), EMBED_OK);
        *slot = (float)i;
        assert_int_equal(emb_copy_in(s.stream, emb_dptr_add(p, 4 * i), slot, 4), EMBED_OK);
        assert_int_equal(emb_event_record(copied, s.stream), EMBED_OK);
    }
    assert_true(emb_fake_peek(s.fake, p, out, sizeof out));
    for (int i = 0; i < 8; i++)
        right = right && out[i] == (float)i;
    emb_device_host_free(s.device, slot);
    emb_device_free(s.device, p);
    emb_event_free(copied);
    fake_setup_free(&s);
    return right;
}

static void early_reuse_shows(void **state) {
    (void)state;
    int wrong = 0;
    for (int seed = 0; seed < SEEDS; seed++) {
        assert_true(staging((uint64_t)seed, 1));
        wrong += !staging((uint64_t)seed, 0);
    }
    assert_true(wrong >= SEEDS / 4);
}

static void uploads(void **state) {
    (void)state;
    unsigned char data[1000], back[1000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7 + i / 256);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fake_setup s;
        emb_upload u;
        emb_dptr p;
        fake_setup_make(&s, seed);
        assert_int_equal(emb_device_alloc(s.device, sizeof data, &p), EMBED_OK);
        assert_int_equal(emb_upload_create(&u, s.device, 1 + (size_t)seed * 17), EMBED_OK);
        assert_int_equal(emb_upload_put(&u, p, data, 3), EMBED_OK);
        assert_int_equal(emb_upload_put(&u, emb_dptr_add(p, 3), data + 3, sizeof data - 3),
                         EMBED_OK);
        assert_int_equal(emb_upload_put(&u, p, NULL, 0), EMBED_OK);
        assert_int_equal(emb_upload_finish(&u), EMBED_OK);
        assert_true(emb_fake_peek(s.fake, p, back, sizeof back));
        assert_memory_equal(data, back, sizeof data);
        emb_upload_free(&u);
        emb_device_free(s.device, p);
        fake_setup_free(&s);
    }
}

static void polling_ends(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fake_setup s;
        emb_event *e;
        emb_dptr p;
        int done = 0, asked = 0;
        float ms = 1;
        fake_setup_make(&s, seed);
        assert_int_equal(emb_event_create(&e, s.device, 1), EMBED_OK);
        assert_int_equal(emb_event_query(e, &done), EMBED_OK);
        assert_true(done); /* never recorded */
        assert_int_equal(emb_device_alloc(s.device, 64, &p), EMBED_OK);
        for (int i = 0; i < 10; i++)
            assert_int_equal(emb_set_device(s.stream, p, i, 64), EMBED_OK);
        assert_int_equal(emb_event_record(e, s.stream), EMBED_OK);
        do
            assert_int_equal(emb_event_query(e, &done), EMBED_OK);
        while (!done && ++asked < 100);
        assert_true(done);
        assert_int_equal(emb_event_elapsed(e, e, &ms), EMBED_OK);
        assert_true(ms == 0);
        emb_event_free(e);
        emb_device_free(s.device, p);
        fake_setup_free(&s);
    }
}

/* An event may go while work still waits for it. */
static void event_freed_early(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        fake_setup s;
        emb_stream *second;
        emb_event *e;
        emb_dptr p;
        fake_setup_make(&s, seed);
        assert_int_equal(emb_stream_create(&second, s.device), EMBED_OK);
        assert_int_equal(emb_event_create(&e, s.device, 0), EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, 64, &p), EMBED_OK);
        assert_int_equal(emb_set_device(s.stream, p, 1, 64), EMBED_OK);
        assert_int_equal(emb_event_record(e, s.stream), EMBED_OK);
        assert_int_equal(emb_stream_wait(second, e), EMBED_OK);
        emb_event_free(e);
        assert_int_equal(emb_stream_sync(second), EMBED_OK);
        emb_stream_free(second);
        emb_device_free(s.device, p);
        fake_setup_free(&s);
    }
}

/* ---- graphs */

/* c = 2 a + 4 in one branch, d = a + 1 in the other, then out = c, out[0] from d. */
static void enqueue_fork(fake_setup *s, emb_stream *second, emb_event *fork, emb_event *join,
                         const emb_dptr *p) {
    const fake_kernel_args left = {p[0], p[1], N, 2, 4, 0}, right = {p[0], p[2], N, 1, 1, 0};
    assert_int_equal(emb_event_record(fork, s->stream), EMBED_OK);
    assert_int_equal(emb_stream_wait(second, fork), EMBED_OK);
    assert_int_equal(fake_kernel_run(s->stream, "scale", &left), EMBED_OK);
    assert_int_equal(fake_kernel_run(second, "scale", &right), EMBED_OK);
    assert_int_equal(emb_event_record(join, second), EMBED_OK);
    assert_int_equal(emb_stream_wait(s->stream, join), EMBED_OK);
    assert_int_equal(emb_copy_device(s->stream, p[1], p[2], 4), EMBED_OK);
    assert_int_equal(emb_set_device(s->stream, p[2], 0, 4), EMBED_OK);
}

static void graphs_replay(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fake_setup s;
        emb_stream *second;
        emb_event *fork, *join;
        emb_graph *g;
        emb_graph_info info;
        emb_dptr p[3];
        float out[2];
        fake_setup_make(&s, seed);
        assert_int_equal(emb_stream_create(&second, s.device), EMBED_OK);
        assert_int_equal(emb_event_create(&fork, s.device, 0), EMBED_OK);
        assert_int_equal(emb_event_create(&join, s.device, 0), EMBED_OK);
        for (int i = 0; i < 3; i++)
            assert_int_equal(emb_device_alloc(s.device, N * 4, &p[i]), EMBED_OK);
        assert_int_equal(emb_capture_begin(s.stream), EMBED_OK);
        enqueue_fork(&s, second, fork, join, p);
        assert_int_equal(emb_capture_end(s.stream, &g, &info), EMBED_OK);
        assert_int_equal(info.kernels, 2);
        assert_int_equal(info.copies, 1);
        assert_int_equal(info.sets, 1);
        for (int round = 0; round < 3; round++) { /* nothing ran so far; each launch runs anew */
            assert_int_equal(emb_set_device(s.stream, p[0], 0, N * 4), EMBED_OK);
            assert_int_equal(emb_graph_launch(g, s.stream), EMBED_OK);
        }
        emb_graph_free(g); /* may go while it runs */
        assert_true(emb_fake_peek(s.fake, p[1], out, sizeof out));
        assert_true(out[0] == 1.0f && out[1] == 4.0f);
        for (int i = 0; i < 3; i++)
            emb_device_free(s.device, p[i]);
        emb_event_free(fork);
        emb_event_free(join);
        emb_stream_free(second);
        fake_setup_free(&s);
    }
}

/* Each of these breaks a capture; ending it tells why, and the stream works again. */
static void capture_refuses(void **state) {
    (void)state;
    static const char *const texts[] = {"host waited",       "host waited",  "host waited",
                                        "memory was",        "memory was",   "host and device",
                                        "host and device",   "from outside", "not joined again",
                                        "a stream was freed"};
    for (int how = 0; how < 10; how++) {
        fake_setup s;
        emb_stream *second;
        emb_event *e, *outside;
        emb_graph *g;
        emb_dptr p, q = {0};
        void *pinned, *more = NULL;
        int done;
        fake_setup_make(&s, 0);
        assert_int_equal(emb_stream_create(&second, s.device), EMBED_OK);
        assert_int_equal(emb_event_create(&e, s.device, 0), EMBED_OK);
        assert_int_equal(emb_event_create(&outside, s.device, 0), EMBED_OK);
        assert_int_equal(emb_device_alloc(s.device, 64, &p), EMBED_OK);
        assert_int_equal(emb_device_host_alloc(s.device, 64, &pinned), EMBED_OK);
        assert_int_equal(emb_event_record(outside, second), EMBED_OK);
        assert_int_equal(emb_capture_begin(s.stream), EMBED_OK);
        assert_int_equal(emb_set_device(s.stream, p, 0, 64), EMBED_OK);
        assert_int_equal(emb_event_record(e, s.stream), EMBED_OK);
        const embed_status st = how == 0   ? emb_stream_sync(s.stream)
                                : how == 1 ? emb_event_sync(e)
                                : how == 2 ? emb_event_query(e, &done)
                                : how == 3 ? emb_device_alloc(s.device, 64, &q)
                                : how == 4 ? emb_device_host_alloc(s.device, 64, &more)
                                : how == 5 ? emb_copy_in(s.stream, p, pinned, 64)
                                : how == 6 ? emb_copy_out(s.stream, pinned, p, 64)
                                : how == 7 ? emb_stream_wait(s.stream, outside)
                                           : emb_stream_wait(second, e);
        if (how == 9) {
            emb_stream_free(second);
            second = NULL;
        } else if (how == 8) {
            assert_int_equal(emb_set_device(second, p, 0, 64), EMBED_OK);
        } else {
            assert_int_equal(st, EMBED_ERR_DEVICE);
        }
        assert_int_equal(emb_capture_end(s.stream, &g, NULL), EMBED_ERR_DEVICE);
        assert_null(g);
        if (strstr(embed_last_error(), texts[how]) == NULL)
            fail_msg("%d: expected '%s' in '%s'", how, texts[how], embed_last_error());
        assert_true(emb_device_alive(s.device));
        assert_int_equal(emb_copy_in(s.stream, p, pinned, 0), EMBED_OK);
        assert_int_equal(emb_stream_sync(s.stream), EMBED_OK);
        emb_device_free(s.device, p);
        emb_device_host_free(s.device, pinned);
        emb_event_free(e);
        emb_event_free(outside);
        emb_stream_free(second);
        fake_setup_free(&s);
    }
}

static void senseless_captures(void **state) {
    (void)state;
    fake_setup s;
    emb_stream *second;
    emb_graph *g;
    fake_setup_make(&s, 0);
    assert_int_equal(emb_stream_create(&second, s.device), EMBED_OK);
    assert_int_equal(emb_capture_end(s.stream, &g, NULL), EMBED_ERR_INTERNAL);
    assert_int_equal(emb_capture_begin(s.stream), EMBED_OK);
    assert_int_equal(emb_capture_begin(second), EMBED_ERR_DEVICE);
    assert_int_equal(emb_capture_end(s.stream, &g, NULL), EMBED_OK); /* an empty graph */
    assert_int_equal(emb_graph_launch(g, second), EMBED_OK);
    assert_int_equal(emb_stream_sync(second), EMBED_OK);
    emb_graph_free(g);
    emb_stream_free(second);
    fake_setup_free(&s);
}

/* Launches that every device refuses. */
static void bad_launches(void **state) {
    (void)state;
    fake_setup s;
    const emb_be_kernel *k;
    fake_kernel_args args = {{0}, {0}, 0, 0, 0, 0};
    fake_setup_make(&s, 0);
    assert_int_equal(emb_kernel_find(s.device, "missing", &k), EMBED_ERR_UNSUPPORTED);
    assert_non_null(strstr(embed_last_error(), "missing"));
    assert_int_equal(emb_kernel_find(s.device, "touch", &k), EMBED_OK);
    const emb_launch launches[] = {{{1, 1, 1}, {1025, 1, 1}, 0, sizeof args, &args},
                                   {{1, 1, 1}, {0, 1, 1}, 0, sizeof args, &args},
                                   {{1, 65536, 1}, {1, 1, 1}, 0, sizeof args, &args},
                                   {{1, 1, 1}, {1, 1, 1}, 1025, sizeof args, &args},
                                   {{1, 1, 1}, {1, 1, 1}, 0, 8, &args}};
    for (size_t i = 0; i < sizeof launches / sizeof launches[0]; i++)
        assert_int_equal(emb_kernel_launch(s.stream, k, &launches[i]), EMBED_ERR_DEVICE);
    const emb_launch empty = {{0, 1, 1}, {128, 1, 1}, 0, sizeof args, &args};
    assert_int_equal(emb_kernel_launch(s.stream, k, &empty), EMBED_OK);
    const emb_launch most = {{1, 65535, 1}, {1024, 1, 1}, 1024, sizeof args, &args};
    assert_int_equal(emb_kernel_launch(s.stream, k, &most), EMBED_OK);
    assert_int_equal(emb_stream_sync(s.stream), EMBED_OK);
    fake_setup_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(missing_wait_shows),
                                       cmocka_unit_test(early_reuse_shows),
                                       cmocka_unit_test(uploads),
                                       cmocka_unit_test(polling_ends),
                                       cmocka_unit_test(event_freed_early),
                                       cmocka_unit_test(graphs_replay),
                                       cmocka_unit_test(capture_refuses),
                                       cmocka_unit_test(senseless_captures),
                                       cmocka_unit_test(bad_launches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

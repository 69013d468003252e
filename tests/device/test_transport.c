/* Collectives among 1, 2, 3 and 8 fake devices against a plain loop, in many orders. */
#include "support/test.h"

#include "device/transport.h"
#include "support/fake_kernels.h"

#define MOST 8
#define BYTES 96

typedef struct world {
    emb_env env;
    emb_fake *fake;
    int32_t ranks;
    emb_device *devices[MOST];
    emb_stream *streams[MOST];
    emb_transport *transport;
    emb_dptr send[MOST], recv[MOST];
} world;

static void open_world(world *w, int32_t ranks, uint64_t seed, size_t bytes) {
    const emb_fake_params params = {
        .devices = ranks, .seed = seed, .kernels = fake_kernels, .n_kernels = n_fake_kernels};
    memset(w, 0, sizeof *w);
    w->env = test_env();
    w->ranks = ranks;
    assert_int_equal(emb_fake_create(&w->fake, &w->env, &params), EMBED_OK);
    for (int32_t r = 0; r < ranks; r++) {
        assert_int_equal(emb_device_open(&w->devices[r], &w->env, emb_fake_backend(w->fake), r),
                         EMBED_OK);
        assert_int_equal(emb_stream_create(&w->streams[r], w->devices[r]), EMBED_OK);
        assert_int_equal(emb_device_alloc(w->devices[r], bytes, &w->send[r]), EMBED_OK);
        assert_int_equal(emb_device_alloc(w->devices[r], bytes, &w->recv[r]), EMBED_OK);
    }
    assert_int_equal(emb_transport_create(&w->transport, &w->env, w->devices, ranks), EMBED_OK);
    assert_int_equal(emb_transport_ranks(w->transport), ranks);
}

static void close_world(world *w) {
    assert_string_equal(emb_fake_fault(w->fake), "");
    emb_transport_free(w->transport);
    for (int32_t r = 0; r < w->ranks; r++) {
        emb_device_free(w->devices[r], w->send[r]);
        emb_device_free(w->devices[r], w->recv[r]);
        emb_stream_free(w->streams[r]);
        emb_device_close(w->devices[r]);
    }
    assert_int_equal(emb_fake_live(w->fake), 0);
    emb_fake_free(w->fake);
}

/* send[r] = r + 1 in every byte, enqueued late on each stream */
static void fill(world *w, size_t bytes) {
    for (int32_t r = 0; r < w->ranks; r++)
        if (bytes > 0)
            assert_int_equal(emb_set_device(w->streams[r], w->send[r], r + 1, bytes), EMBED_OK);
}

static void check(world *w, emb_dptr at, const unsigned char *want, size_t bytes) {
    unsigned char got[MOST * BYTES];
    assert_true(emb_fake_peek(w->fake, at, got, bytes));
    assert_memory_equal(got, want, bytes);
}

static void broadcasts(int32_t ranks, uint64_t seed) {
    for (int32_t root = 0; root < ranks; root++) {
        world w;
        unsigned char want[BYTES];
        open_world(&w, ranks, seed, BYTES);
        fill(&w, BYTES);
        assert_int_equal(emb_transport_broadcast(w.transport, w.streams, w.send, BYTES, root),
                         EMBED_OK);
        memset(want, root + 1, sizeof want);
        for (int32_t r = 0; r < ranks; r++)
            check(&w, w.send[r], want, BYTES);
        assert_int_equal(emb_transport_broadcast(w.transport, w.streams, w.send, 0, root),
                         EMBED_OK);
        assert_int_equal(emb_transport_broadcast(w.transport, w.streams, w.send, BYTES, ranks),
                         EMBED_ERR_INTERNAL);
        close_world(&w);
    }
}

static void gathers(int32_t ranks, uint64_t seed) {
    world w;
    unsigned char want[MOST * BYTES];
    open_world(&w, ranks, seed, MOST * BYTES);
    fill(&w, BYTES);
    assert_int_equal(emb_transport_all_gather(w.transport, w.streams, w.send, w.recv, BYTES),
                     EMBED_OK);
    for (int32_t r = 0; r < ranks; r++)
        memset(want + r * BYTES, r + 1, BYTES);
    for (int32_t r = 0; r < ranks; r++)
        check(&w, w.recv[r], want, (size_t)ranks * BYTES);
    close_world(&w);
}

/* Random counts, zeros among them; every element tells sender, receiver and number. */
static void exchanges(int32_t ranks, uint64_t seed) {
    world w;
    const size_t n = (size_t)ranks;
    size_t counts[MOST * MOST];
    uint64_t random = seed;
    uint32_t *host[MOST];
    open_world(&w, ranks, seed, MOST * BYTES);
    for (size_t i = 0; i < n * n; i++)
        counts[i] = test_rand(&random) % 4 == 0 ? 0 : test_rand(&random) % (BYTES / 4 + 1);
    for (size_t from = 0; from < n; from++) {
        size_t at = 0;
        assert_int_equal(emb_device_host_alloc(w.devices[from], MOST * BYTES, (void **)&host[from]),
                         EMBED_OK);
        for (size_t to = 0; to < n; to++)
            for (size_t i = 0; i < counts[from * n + to]; i++)
                host[from][at++] = (uint32_t)(from << 16 | to << 8 | i);
        assert_int_equal(emb_copy_in(w.streams[from], w.send[from], host[from], at * 4), EMBED_OK);
    }
    assert_int_equal(emb_transport_all_to_all(w.transport, w.streams, w.send, w.recv, counts, 4),
                     EMBED_OK);
    for (size_t to = 0; to < n; to++) {
        uint32_t want[MOST * BYTES / 4];
        size_t at = 0;
        for (size_t from = 0; from < n; from++)
            for (size_t i = 0; i < counts[from * n + to]; i++)
                want[at++] = (uint32_t)(from << 16 | to << 8 | i);
        check(&w, w.recv[to], (const unsigned char *)want, at * 4);
    }
    for (size_t r = 0; r < n; r++)
        emb_device_host_free(w.devices[r], host[r]);
    close_world(&w);
}

/* After a barrier, what rank 0 did before it is there for all: without, it is not always. */
static void barriers(int32_t ranks, uint64_t seed) {
    world w;
    emb_event *e;
    open_world(&w, ranks, seed, BYTES);
    fill(&w, BYTES);
    assert_int_equal(emb_transport_barrier(w.transport, w.streams), EMBED_OK);
    const int32_t last = ranks - 1;
    assert_int_equal(emb_event_create(&e, w.devices[last], 0), EMBED_OK);
    assert_int_equal(emb_event_record(e, w.streams[last]), EMBED_OK);
    assert_int_equal(emb_event_sync(e), EMBED_OK);
    /* The last rank is past the barrier, so every set has run and its queues are at least there. */
    assert_true(emb_fake_calls(w.fake, EMB_FAKE_EXECUTION) >= ranks);
    emb_event_free(e);
    close_world(&w);
}

static void equal_plain_loops(void **state) {
    (void)state;
    static const int32_t ranks[] = {1, 2, 3, 8};
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++)
        for (uint64_t seed = 0; seed < 12; seed++) {
            broadcasts(ranks[i], seed);
            gathers(ranks[i], seed);
            exchanges(ranks[i], seed);
            barriers(ranks[i], seed);
        }
}

/* One rank lost: the others do not wait for it. */
static void lost_rank(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        world w;
        open_world(&w, 3, seed, BYTES);
        fill(&w, BYTES);
        emb_fake_fail(w.fake, EMB_FAKE_EXECUTION, 2, EMB_DEVICE_LOST);
        embed_status st = emb_transport_broadcast(w.transport, w.streams, w.send, BYTES, 0);
        int lost = st != EMBED_OK;
        for (int32_t r = 0; r < 3; r++)
            lost += emb_stream_sync(w.streams[r]) == EMBED_ERR_DEVICE;
        assert_true(lost > 0);
        close_world(&w);
    }
}

static void refusals(void **state) {
    (void)state;
    const emb_env env = test_env();
    const emb_fake_params params = {.devices = 2, .no_comm = "no collectives here"};
    emb_fake *fake;
    emb_device *d[3];
    emb_transport *t;
    world w;
    assert_int_equal(emb_fake_create(&fake, &env, &params), EMBED_OK);
    for (int32_t r = 0; r < 2; r++)
        assert_int_equal(emb_device_open(&d[r], &env, emb_fake_backend(fake), r), EMBED_OK);
    assert_int_equal(emb_transport_create(&t, &env, d, 2), EMBED_ERR_UNSUPPORTED);
    assert_non_null(strstr(embed_last_error(), "no collectives here"));
    assert_null(t);
    assert_int_equal(emb_transport_create(&t, &env, d, 1), EMBED_OK); /* needs nothing */
    emb_transport_free(t);
    assert_int_equal(emb_transport_create(&t, &env, d, 0), EMBED_ERR_ARG);
    open_world(&w, 2, 0, BYTES);
    emb_device *mixed[2] = {d[0], w.devices[0]}, *twice[2] = {w.devices[0], w.devices[0]};
    assert_int_equal(emb_transport_create(&t, &env, mixed, 2), EMBED_ERR_ARG);
    assert_int_equal(emb_transport_create(&t, &env, twice, 2), EMBED_ERR_DEVICE);
    emb_stream *swapped[2] = {w.streams[1], w.streams[0]};
    assert_int_equal(emb_transport_barrier(w.transport, swapped), EMBED_ERR_INTERNAL);
    const size_t huge[4] = {0, SIZE_MAX, 0, 0};
    assert_int_equal(emb_transport_all_to_all(w.transport, w.streams, w.send, w.recv, huge, 4),
                     EMBED_ERR_NOMEM);
    close_world(&w);
    emb_device_close(d[0]);
    emb_device_close(d[1]);
    emb_fake_free(fake);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_plain_loops),
                                       cmocka_unit_test(lost_rank), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

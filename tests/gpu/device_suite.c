#include "gpu/device_suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "cuda_module/cuda_kernels.h"
#include "device/arena.h"
#include "device/transport.h"
#include "device/upload.h"

#define N 5000
#define BYTES (N * sizeof(uint32_t))

/* What most checks need. */
typedef struct bench {
    emb_device *device;
    emb_stream *stream, *second;
    emb_event *event, *join;
    emb_dptr p, q; /* [N] uint32_t each */
    uint32_t *host;
} bench;

/* A check fails by a status or by returning this with a sentence. */
#define WRONG(...) emb_fail(EMBED_ERR_INTERNAL, __VA_ARGS__)

static void bench_free(bench *b) {
    if (b->device != NULL) {
        emb_device_free(b->device, b->p);
        emb_device_free(b->device, b->q);
        emb_device_host_free(b->device, b->host);
    }
    emb_event_free(b->event);
    emb_event_free(b->join);
    emb_stream_free(b->stream);
    emb_stream_free(b->second);
    emb_device_close(b->device);
}

static embed_status bench_make(bench *b, const device_suite *s) {
    embed_status st;
    memset(b, 0, sizeof *b);
    EMB_TRY(emb_device_open(&b->device, s->env, s->backend, s->device));
    EMB_TRY(emb_stream_create(&b->stream, b->device));
    EMB_TRY(emb_stream_create(&b->second, b->device));
    EMB_TRY(emb_event_create(&b->event, b->device, 1));
    EMB_TRY(emb_event_create(&b->join, b->device, 1));
    EMB_TRY(emb_device_alloc(b->device, BYTES, &b->p));
    EMB_TRY(emb_device_alloc(b->device, BYTES, &b->q));
    EMB_TRY(emb_device_host_alloc(b->device, BYTES, (void **)&b->host));
fail:
    return st;
}

/* out[i] = first + i */
static embed_status probe(emb_stream *s, emb_dptr out, uint32_t n, uint32_t first) {
    embed_status st;
    const emb_be_kernel *kernel;
    const emb_probe_args args = {out, n, first};
    const emb_launch launch = {
        {(n + 255) / 256, 1, 1}, {256, 1, 1}, 0, (uint32_t)sizeof args, &args};
    EMB_TRY(emb_kernel_find(emb_stream_device(s), "device_probe", &kernel));
    EMB_TRY(emb_kernel_launch(s, kernel, &launch));
fail:
    return st;
}

static embed_status expect_sequence(bench *b, emb_dptr p, uint32_t first) {
    embed_status st;
    EMB_TRY(emb_copy_out(b->stream, b->host, p, BYTES));
    EMB_TRY(emb_stream_sync(b->stream));
    for (uint32_t i = 0; i < N; i++)
        if (b->host[i] != first + i)
            return WRONG("[%u]: expected %u, found %u", i, first + i, b->host[i]);
fail:
    return st;
}

/* ---- checks */

static embed_status copies(bench *b) {
    embed_status st;
    for (uint32_t i = 0; i < N; i++)
        b->host[i] = 7 + i;
    EMB_TRY(emb_copy_in(b->stream, b->p, b->host, BYTES));
    EMB_TRY(emb_copy_device(b->stream, b->q, b->p, BYTES));
    EMB_TRY(emb_set_device(b->stream, b->p, 0x11, BYTES));
    EMB_TRY(emb_stream_sync(b->stream)); /* then the host may have its memory back */
    memset(b->host, 0, BYTES);
    EMB_TRY(expect_sequence(b, b->q, 7));
    EMB_TRY(emb_copy_out(b->stream, b->host, b->p, BYTES));
    EMB_TRY(emb_stream_sync(b->stream));
    for (uint32_t i = 0; i < N; i++)
        if (b->host[i] != 0x11111111)
            return WRONG("set: [%u]: found %#x", i, b->host[i]);
fail:
    return st;
}

static embed_status kernels(bench *b) {
    embed_status st;
    const emb_be_kernel *kernel;
    EMB_TRY(emb_set_device(b->stream, b->p, 0, BYTES));
    EMB_TRY(probe(b->stream, b->p, N, 42));
    EMB_TRY(expect_sequence(b, b->p, 42));
    if (emb_kernel_find(b->device, "no such kernel", &kernel) != EMBED_ERR_UNSUPPORTED)
        return WRONG("a kernel that is not there was found");
    const emb_probe_args args = {b->p, N, 0};
    const emb_launch wide = {{1, 1, 1}, {2048, 1, 1}, 0, (uint32_t)sizeof args, &args};
    EMB_TRY(emb_kernel_find(b->device, "device_probe", &kernel));
    if (emb_kernel_launch(b->stream, kernel, &wide) != EMBED_ERR_DEVICE)
        return WRONG("a block of 2048 threads was launched");
    EMB_TRY(probe(b->stream, b->p, N, 43)); /* and goes on after it */
    EMB_TRY(expect_sequence(b, b->p, 43));
fail:
    return st;
}

static embed_status events(bench *b) {
    embed_status st;
    int done = 0;
    float ms = -1;
    EMB_TRY(emb_event_query(b->join, &done));
    if (!done)
        return WRONG("an event that was never recorded has not happened");
    EMB_TRY(emb_event_record(b->join, b->second));
    for (uint32_t i = 0; i < 20; i++) {
        EMB_TRY(probe(b->second, b->p, N, i));
        EMB_TRY(emb_event_record(b->event, b->second));
        EMB_TRY(emb_stream_wait(b->stream, b->event));
        EMB_TRY(emb_copy_device(b->stream, b->q, b->p, BYTES));
        EMB_TRY(emb_event_record(b->event, b->stream));
        EMB_TRY(emb_stream_wait(b->second, b->event));
    }
    EMB_TRY(expect_sequence(b, b->q, 19));
    EMB_TRY(emb_event_sync(b->event));
    EMB_TRY(emb_event_elapsed(b->join, b->event, &ms));
    if (!(ms >= 0))
        return WRONG("time between events: found %g ms", (double)ms);
fail:
    return st;
}

static embed_status captured(bench *b) {
    embed_status st;
    EMB_TRY(probe(b->stream, b->p, N, 5));
    EMB_TRY(emb_event_record(b->event, b->stream));
    EMB_TRY(emb_stream_wait(b->second, b->event));
    EMB_TRY(emb_copy_device(b->second, b->q, b->p, BYTES));
    EMB_TRY(emb_event_record(b->join, b->second));
    EMB_TRY(emb_set_device(b->stream, b->p, 0, 0));
    EMB_TRY(emb_stream_wait(b->stream, b->join));
    EMB_TRY(emb_set_device(b->stream, b->p, 0, BYTES));
fail:
    return st;
}

static embed_status graphs(bench *b) {
    embed_status st;
    emb_graph *g = NULL;
    emb_graph_info info;
    EMB_TRY(probe(b->stream, b->q, N, 9)); /* what loads at a first launch is loaded */
    EMB_TRY(emb_stream_sync(b->stream));
    EMB_TRY(emb_capture_begin(b->stream));
    st = captured(b);
    const embed_status ended = emb_capture_end(b->stream, &g, &info);
    if (st != EMBED_OK || ended != EMBED_OK)
        return st != EMBED_OK ? st : ended;
    if (info.kernels != 1 || info.copies != 1 || info.sets != 1) {
        st = WRONG("expected 1 kernel, 1 copy and 1 set, found %d, %d and %d", info.kernels,
                   info.copies, info.sets);
        goto fail;
    }
    EMB_TRY(expect_sequence(b, b->q, 9)); /* recorded, not run */
    for (int i = 0; i < 3; i++) {
        EMB_TRY(emb_set_device(b->stream, b->q, 0, BYTES));
        EMB_TRY(emb_graph_launch(g, b->stream));
        EMB_TRY(expect_sequence(b, b->q, 5));
    }
fail:
    emb_graph_free(g);
    return st;
}

/* A capture is broken by a copy to the host and by a wait; then all is as before. */
static embed_status broken_captures(bench *b) {
    embed_status st = EMBED_OK;
    for (int how = 0; how < 2; how++) {
        emb_graph *g = NULL;
        EMB_TRY(emb_capture_begin(b->stream));
        const embed_status refused =
            how == 0 ? emb_copy_out(b->stream, b->host, b->p, BYTES) : emb_stream_sync(b->stream);
        const embed_status ended = emb_capture_end(b->stream, &g, NULL);
        emb_graph_free(g);
        if (refused != EMBED_ERR_DEVICE || (how == 1 && ended != EMBED_ERR_DEVICE))
            return WRONG("%s was captured", how == 0 ? "a copy to the host" : "a wait");
        EMB_TRY(probe(b->stream, b->p, N, 77));
        EMB_TRY(expect_sequence(b, b->p, 77));
    }
fail:
    return st;
}

static embed_status memory(bench *b) {
    embed_status st;
    emb_dptr p;
    if (emb_device_alloc(b->device, (size_t)1 << 50, &p) == EMBED_OK || p.at != 0)
        return WRONG("a petabyte was allocated");
    if (!emb_device_alive(b->device))
        return WRONG("out of memory lost the device");
    for (int i = 0; i < 20; i++) {
        EMB_TRY(emb_device_alloc(b->device, (size_t)1 << i, &p));
        if (p.at % EMB_DEVICE_ALIGN != 0)
            return WRONG("%#llx is not aligned", (unsigned long long)p.at);
        EMB_TRY(emb_set_device(b->stream, p, 0, (size_t)1 << i));
        emb_device_free(b->device, p);
    }
    EMB_TRY(probe(b->stream, b->p, N, 1));
    EMB_TRY(expect_sequence(b, b->p, 1));
fail:
    return st;
}

/* What a caller may name as memory of the device. */
static embed_status callers_memory(bench *b) {
    embed_status st;
    static char host[64];
    const emb_dptr outside = {(uint64_t)(uintptr_t)host};
    EMB_TRY(emb_device_memory_check(b->device, b->p, BYTES));
    EMB_TRY(emb_device_memory_check(b->device, emb_dptr_add(b->p, 12), 4));
    if (emb_device_memory_check(b->device, outside, sizeof host) != EMBED_ERR_ARG)
        return WRONG("memory of the host passes for the device's");
    if (!emb_device_alive(b->device))
        return WRONG("a pointer that was refused lost the device");
    EMB_TRY(probe(b->stream, b->p, N, 1));
    EMB_TRY(expect_sequence(b, b->p, 1));
fail:
    return st;
}

static embed_status uploads(bench *b) {
    embed_status st;
    emb_upload u = {0};
    uint32_t *data = malloc(BYTES);
    if (data == NULL)
        return WRONG("no memory");
    for (uint32_t i = 0; i < N; i++)
        data[i] = 1000 + i;
    EMB_TRY(emb_upload_create(&u, b->device, 1000));
    EMB_TRY(emb_upload_put(&u, b->q, data, BYTES));
    EMB_TRY(emb_upload_finish(&u));
    EMB_TRY(expect_sequence(b, b->q, 1000));
fail:
    emb_upload_free(&u);
    free(data);
    return st;
}

/* ---- products */

static float value(uint32_t i) { /* exact in every type: multiples of 1/8 up to 1 */
    return (float)((int)(i * 2654435761u >> 28) - 8) / 8;
}

static size_t pack(unsigned char *out, int32_t dtype, size_t n, uint32_t salt) {
    for (size_t i = 0; i < n; i++) {
        const float f = value((uint32_t)i + salt);
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        const uint16_t h = dtype == EMBED_F16 ? emb_f32_to_f16(f) : (uint16_t)(u >> 16);
        if (dtype == EMBED_F32)
            memcpy(out + 4 * i, &f, sizeof f);
        else
            memcpy(out + 2 * i, &h, sizeof h);
    }
    return n * emb_dtype_bytes(dtype);
}

static float unpack(const unsigned char *p, int32_t dtype, size_t i) {
    uint16_t h;
    float f;
    if (dtype == EMBED_F32) {
        memcpy(&f, p + 4 * i, sizeof f);
        return f;
    }
    memcpy(&h, p + 2 * i, sizeof h);
    return dtype == EMBED_F16 ? emb_f16_to_f32(h) : emb_bf16_to_f32(h);
}

/* Sums of multiples of 1/64 below 2^18 are exact in f32, so only the output is rounded. */
static embed_status check_product(const emb_gemm_spec *s, const unsigned char *y) {
    const double ulp = s->y_dtype == EMBED_F32 ? 0 : s->y_dtype == EMBED_F16 ? 0x1p-11 : 0x1p-8;
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            double want = s->bias ? (double)value((uint32_t)j + 300) : 0;
            if (s->residual)
                want += (double)value((uint32_t)(i * s->n + j) + 400);
            for (int64_t l = 0; l < s->k; l++)
                want += (double)value((uint32_t)(i * s->k + l) + 100) *
                        (double)value((uint32_t)(j * s->k + l) + 200);
            const double got = (double)unpack(y, s->y_dtype, (size_t)(i * s->n + j));
            if (!(fabs(got - want) <= ulp * fabs(want)))
                return WRONG("%lld x %lld x %lld, types %d to %d: [%lld,%lld]: expected %g, found "
                             "%g",
                             (long long)s->m, (long long)s->n, (long long)s->k, s->dtype,
                             s->y_dtype, (long long)i, (long long)j, want, got);
        }
    return EMBED_OK;
}

static embed_status one_product(bench *b, const emb_gemm_spec *s) {
    enum { X, W, BIAS, RESIDUAL, Y, WORK, REGIONS };
    embed_status st;
    emb_arena arena = {0};
    emb_upload u = {0};
    emb_gemm_plan *plan = NULL;
    unsigned char *host = NULL;
    const size_t in = emb_dtype_bytes(s->dtype), out = emb_dtype_bytes(s->y_dtype),
                 m = (size_t)s->m, n = (size_t)s->n, k = (size_t)s->k;
    EMB_TRY(emb_gemm_plan_create(&plan, b->device, s));
    const size_t work = (size_t)emb_gemm_plan_facts(plan)->workspace_bytes;
    const emb_arena_region regions[REGIONS] = {
        {"x", m * k * in, 0, 1, 0},         {"w", n * k * in, 0, 1, 0},  {"bias", n * out, 0, 1, 0},
        {"residual", m * n * out, 0, 1, 0}, {"y", m * n * out, 0, 1, 0}, {"work", work, 0, 1, 0}};
    EMB_TRY(emb_arena_create(&arena, b->device, regions, REGIONS));
    EMB_TRY(emb_upload_create(&u, b->device, 4096));
    host = malloc((m + n + 1) * (k + n) * 4);
    for (size_t r = 0; host != NULL && r < Y; r++) {
        static const uint32_t salts[] = {100, 200, 300, 400};
        const int32_t dtype = r <= W ? s->dtype : s->y_dtype;
        EMB_TRY(emb_arena_begin(&arena, u.stream, r));
        const size_t bytes = pack(host, dtype, regions[r].bytes / emb_dtype_bytes(dtype), salts[r]);
        EMB_TRY(emb_upload_put(&u, emb_arena_at(&arena, r), host, bytes));
    }
    EMB_TRY(emb_upload_finish(&u));
    EMB_TRY(emb_arena_begin(&arena, b->stream, Y));
    EMB_TRY(emb_arena_begin(&arena, b->stream, WORK));
    const emb_gemm_args args = {emb_arena_at(&arena, X),    emb_arena_at(&arena, W),
                                emb_arena_at(&arena, BIAS), emb_arena_at(&arena, RESIDUAL),
                                emb_arena_at(&arena, Y),    emb_arena_at(&arena, WORK)};
    EMB_TRY(emb_gemm_plan_run(plan, b->stream, &args));
    EMB_TRY(emb_copy_out(b->stream, b->host, emb_arena_at(&arena, Y), m * n * out));
    EMB_TRY(emb_stream_sync(b->stream));
    EMB_TRY(check_product(s, (const unsigned char *)b->host));
fail:
    free(host);
    emb_upload_free(&u);
    emb_arena_free(&arena);
    emb_gemm_plan_free(plan);
    return st;
}

static embed_status products(bench *b) {
    static const int32_t types[][2] = {{EMBED_F32, EMBED_F32},
                                       {EMBED_F16, EMBED_F16},
                                       {EMBED_BF16, EMBED_BF16},
                                       {EMBED_BF16, EMBED_F32},
                                       {EMBED_F16, EMBED_F32}};
    static const int64_t sizes[][3] = {{1, 16, 64}, {33, 48, 40}, {64, 64, 128}};
    embed_status st = EMBED_OK;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (int32_t extra = 0; extra < 4; extra++) {
                const emb_gemm_spec s = {sizes[i][0], sizes[i][1],      sizes[i][2], types[t][0],
                                         types[t][1], extra & 1,        extra >> 1,  0,
                                         0,           (uint64_t)4 << 20};
                EMB_TRY(one_product(b, &s));
            }
fail:
    return st;
}

/* ---- several devices */

static embed_status broadcast_and_barrier(const device_suite *s) {
    embed_status st = EMBED_OK;
    bench *all = calloc((size_t)s->ranks, sizeof *all);
    emb_transport *t = NULL;
    emb_device *devices[EMB_MAX_RANKS];
    emb_stream *streams[EMB_MAX_RANKS];
    emb_dptr buffers[EMB_MAX_RANKS];
    if (all == NULL)
        return WRONG("no memory");
    for (int32_t r = 0; r < s->ranks; r++) {
        device_suite one = *s;
        one.device = r;
        EMB_TRY(bench_make(&all[r], &one));
        devices[r] = all[r].device;
        streams[r] = all[r].stream;
        buffers[r] = all[r].p;
        EMB_TRY(probe(all[r].stream, all[r].p, N, 100 * (uint32_t)(r + 1)));
    }
    EMB_TRY(emb_transport_create(&t, s->env, devices, s->ranks));
    EMB_TRY(emb_transport_broadcast(t, streams, buffers, BYTES, s->ranks - 1));
    EMB_TRY(emb_transport_barrier(t, streams));
    for (int32_t r = 0; r < s->ranks; r++)
        EMB_TRY(expect_sequence(&all[r], all[r].p, 100 * (uint32_t)s->ranks));
fail:
    emb_transport_free(t);
    for (int32_t r = 0; r < s->ranks; r++)
        bench_free(&all[r]);
    free(all);
    return st;
}

/* ---- the end of a device */

static embed_status lost(bench *b) {
    emb_dptr p;
    int done;
    (void)probe(b->stream, (emb_dptr){64}, N, 0); /* no address of anything */
    if (emb_stream_sync(b->stream) == EMBED_OK || emb_device_alive(b->device))
        return WRONG("a kernel wrote nowhere, and nothing happened");
    const embed_status after[] = {emb_stream_sync(b->stream),
                                  emb_stream_sync(b->second),
                                  emb_device_alloc(b->device, 64, &p),
                                  emb_event_query(b->event, &done),
                                  emb_event_sync(b->event),
                                  probe(b->second, b->p, N, 0),
                                  emb_capture_begin(b->second)};
    for (size_t i = 0; i < sizeof after / sizeof after[0]; i++)
        if (after[i] != EMBED_ERR_DEVICE)
            return WRONG("call %zu on a lost device: %s", i, embed_status_name(after[i]));
    return EMBED_OK;
}

static void report(device_suite *s, const char *name, embed_status st) {
    if (st == EMBED_ERR_UNSUPPORTED) {
        s->skipped++;
        printf("skipped  %s: %s\n", name, embed_last_error());
    } else if (st != EMBED_OK) {
        s->failed++;
        printf("FAILED   %s: %s\n", name, embed_last_error());
    } else {
        s->passed++;
        if (!s->quiet)
            printf("ok       %s\n", name);
    }
    (void)fflush(stdout);
}

void device_suite_run(device_suite *s, int lose) {
    const struct {
        const char *name;
        embed_status (*run)(bench *);
    } checks[] = {{"copies and sets", copies},
                  {"kernels", kernels},
                  {"events between streams", events},
                  {"graphs", graphs},
                  {"captures that break", broken_captures},
                  {"memory", memory},
                  {"memory of the caller", callers_memory},
                  {"uploads", uploads},
                  {"matrix products", products},
                  {"a lost device", lost}};
    const size_t n = sizeof checks / sizeof checks[0] - (lose ? 0 : 1);
    if (s->ranks > 1)
        report(s, "broadcast and barrier", broadcast_and_barrier(s));
    for (size_t i = 0; i < n; i++) {
        bench b;
        embed_status st = bench_make(&b, s);
        if (st == EMBED_OK)
            st = checks[i].run(&b);
        report(s, checks[i].name, st);
        bench_free(&b);
    }
}

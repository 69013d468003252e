#include "device/fake_impl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int emb_fake_error(emb_device_error *err, int code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return code;
}

/* SplitMix64. */
uint32_t emb_fake_random(emb_fake *f, uint32_t below) {
    uint64_t z = f->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return below == 0 ? 0 : (uint32_t)((z ^ z >> 31) % below);
}

static void vlose(emb_be_device *d, int code, const char *fmt, va_list args) {
    if (d->lost != 0)
        return;
    d->lost = code;
    (void)vsnprintf(d->lost_text, sizeof d->lost_text, fmt, args);
    for (emb_be_stream *s = d->fake->streams; s != NULL; s = s->next)
        if (s->device == d)
            emb_fake_drop_queue(s);
}

void emb_fake_lose(emb_be_device *d, int code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vlose(d, code, fmt, args);
    va_end(args);
}

void emb_fake_raise(emb_be_device *d, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    if (d->fake->fault[0] == '\0') {
        va_list copy;
        va_copy(copy, args);
        (void)vsnprintf(d->fake->fault, sizeof d->fake->fault, fmt, copy);
        va_end(copy);
    }
    vlose(d, EMB_DEVICE_MISUSE, fmt, args);
    va_end(args);
}

int emb_fake_lost(const emb_be_device *d, emb_device_error *err) {
    return d->lost == 0 ? 0 : emb_fake_error(err, d->lost, "%s", d->lost_text);
}

/* Counts one call of a kind; the code it shall fail with, or 0. */
static int injected(emb_fake *f, emb_fake_call call) {
    return ++f->calls[call] == f->fail_at[call] ? f->fail_code[call] : 0;
}

int emb_fake_enter(emb_fake *f, emb_be_device *d, emb_fake_call call, emb_device_error *err) {
    (void)pthread_mutex_lock(&f->lock);
    return emb_fake_call_counted(f, d, call, err);
}

int emb_fake_call_counted(emb_fake *f, emb_be_device *d, emb_fake_call call,
                          emb_device_error *err) {
    if (d != NULL && d->lost != 0)
        return emb_fake_lost(d, err);
    int code = injected(f, call);
    const int any = injected(f, EMB_FAKE_ANY);
    if (code == 0)
        code = any;
    if (code == 0)
        return 0;
    if (code == EMB_DEVICE_LOST && d != NULL)
        emb_fake_lose(d, code, "injected failure for good");
    return emb_fake_error(err, code, "injected failure");
}

int emb_fake_leave(emb_fake *f, int code) {
    (void)pthread_mutex_unlock(&f->lock);
    return code;
}

/* ---- the table */

/* As CUDA, which no child of the process that began with it can use; a thread of the parent's may
 * hold the lock here for ever. */
static int check_process(emb_fake *f, emb_device_error *err) {
    int64_t first = 0;
    const int64_t self = getpid();
    if (!atomic_compare_exchange_strong(&f->pid, &first, self) && first != self)
        return emb_fake_error(err, EMB_DEVICE_FORKED,
                              "first used by process %" PRId64
                              ", of which this is a child: start a "
                              "program of its own (exec) or use it only after fork()",
                              first);
    return EMB_DEVICE_OK;
}

static int count(void *self, int32_t *devices, emb_device_error *err) {
    emb_fake *f = self;
    *devices = f->params.devices;
    return check_process(f, err);
}

static int describe(void *self, int32_t device, emb_device_facts *facts, emb_device_error *err) {
    emb_fake *f = self;
    *facts = (emb_device_facts){.major = f->params.major != 0 ? f->params.major : 9,
                                .multiprocessors = 1,
                                .host_read_only = !f->params.no_host_map,
                                .host_pageable = f->params.host_pageable};
    if (device < 0 || device >= f->params.devices)
        return emb_fake_error(err, EMB_DEVICE_FAILED, "expected a device below %d, found %d",
                              f->params.devices, device);
    const int code = check_process(f, err);
    if (code != EMB_DEVICE_OK)
        return code;
    (void)snprintf(facts->name, sizeof facts->name, "emulated on the CPU");
    facts->memory_total = f->params.memory_bytes != 0 ? f->params.memory_bytes : UINT64_MAX;
    (void)pthread_mutex_lock(&f->lock);
    facts->memory_free = facts->memory_total - f->in_use;
    (void)emb_fake_leave(f, 0);
    facts->usable = f->params.no_device == NULL;
    if (!facts->usable)
        (void)snprintf(facts->reason, sizeof facts->reason, "%s", f->params.no_device);
    return EMB_DEVICE_OK;
}

static int feature(void *self, int32_t id, emb_feature *out, emb_device_error *err) {
    const emb_fake *f = self;
    (void)err;
    const char *why = id == EMB_FEATURE_CUBLASLT ? f->params.no_gemm
                      : id == EMB_FEATURE_NCCL   ? f->params.no_comm
                                                 : f->params.no_attention;
    *out = (emb_feature){.present = why == NULL, .version = why == NULL};
    if (why != NULL)
        (void)snprintf(out->reason, sizeof out->reason, "%s", why);
    return EMB_DEVICE_OK;
}

static int open_device(void *self, int32_t index, const embed_allocator *allocator,
                       emb_be_device **out, emb_device_error *err) {
    emb_fake *f = self;
    emb_env env;
    emb_be_device *d = NULL;
    *out = NULL;
    int code = emb_fake_enter(f, NULL, EMB_FAKE_OPEN, err);
    if (code == 0 && (emb_env_init(&env, allocator, NULL, NULL) != EMBED_OK ||
                      emb_new(&env, sizeof *d, (void **)&d) != EMBED_OK))
        code = emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for a device");
    if (code == 0) {
        d->fake = f;
        d->env = env;
        d->index = index;
        d->next = f->devices;
        f->devices = d;
        f->live++;
        *out = d;
    }
    return emb_fake_leave(f, code);
}

static void close_device(emb_be_device *d) {
    emb_fake *f = d->fake;
    (void)pthread_mutex_lock(&f->lock);
    emb_be_device **link = &f->devices;
    while (*link != d)
        link = &(*link)->next;
    *link = d->next;
    emb_fake_memory_close(d);
    const emb_env env = d->env;
    emb_free(&env, d);
    f->live--;
    (void)emb_fake_leave(f, 0);
}

/* Memory calls are not for a stream that is captured, nor for any other thread meanwhile. */
static int enter_memory(emb_be_device *d, emb_fake_call call, emb_device_error *err) {
    const int code = emb_fake_enter(d->fake, d, call, err);
    if (code != 0 || d->capture == NULL)
        return code;
    emb_fake_capture_break(d, "memory was allocated during the capture");
    return emb_fake_error(err, EMB_DEVICE_FAILED, "memory was allocated during a capture");
}

static int alloc(emb_be_device *d, size_t bytes, emb_dptr *out, emb_device_error *err) {
    const int code = enter_memory(d, EMB_FAKE_ALLOC, err);
    return emb_fake_leave(d->fake, code != 0 ? code : emb_fake_memory_alloc(d, bytes, out, err));
}

static int host_alloc(emb_be_device *d, size_t bytes, void **out, emb_device_error *err) {
    const int code = enter_memory(d, EMB_FAKE_HOST_ALLOC, err);
    return emb_fake_leave(d->fake, code != 0 ? code : emb_fake_host_alloc(d, bytes, out, err));
}

static int host_map(emb_be_device *d, const void *host, size_t bytes, emb_dptr *out,
                    emb_device_error *err) {
    const int code = enter_memory(d, EMB_FAKE_HOST_ALLOC, err);
    return emb_fake_leave(d->fake, code != 0 ? code : emb_fake_host_map(d, host, bytes, out, err));
}

/* Freeing waits for all work of the device, as drivers do. */
static void finish_work(emb_be_device *d) {
    emb_device_error ignored;
    for (emb_be_stream *s = d->fake->streams; s != NULL; s = s->next)
        if (s->device == d && s->capture == NULL)
            (void)emb_fake_drain(s, &ignored);
}

static void free_memory(emb_be_device *d, emb_dptr p) {
    (void)pthread_mutex_lock(&d->fake->lock);
    finish_work(d);
    emb_fake_memory_free(d, p);
    (void)emb_fake_leave(d->fake, 0);
}

static void host_free(emb_be_device *d, void *p) {
    (void)pthread_mutex_lock(&d->fake->lock);
    finish_work(d);
    emb_fake_host_drop(d, p, 1);
    (void)emb_fake_leave(d->fake, 0);
}

static void host_unmap(emb_be_device *d, const void *host) {
    (void)pthread_mutex_lock(&d->fake->lock);
    finish_work(d);
    emb_fake_host_drop(d, host, 0);
    (void)emb_fake_leave(d->fake, 0);
}

static int memory_check(emb_be_device *d, emb_dptr at, size_t bytes, emb_device_error *err) {
    int code = emb_fake_enter(d->fake, d, EMB_FAKE_SYNC, err);
    if (code == 0)
        code = emb_fake_memory_check_caller(d, at, bytes, err);
    return emb_fake_leave(d->fake, code);
}

/* ---- for tests */

embed_status emb_fake_create(emb_fake **out, const emb_env *env, const emb_fake_params *params) {
    emb_fake *f;
    *out = NULL;
    if (params->devices < 0 || params->devices > EMB_MAX_RANKS)
        return emb_fail(EMBED_ERR_ARG, "devices: expected 0 to %d, found %d", EMB_MAX_RANKS,
                        params->devices);
    const embed_status st = emb_new(env, sizeof *f, (void **)&f);
    if (st != EMBED_OK)
        return st;
    f->env = *env;
    f->params = *params;
    if (f->params.devices == 0)
        f->params.devices = 1;
    f->random = params->seed;
    (void)pthread_mutex_init(&f->lock, NULL);
    f->table = (emb_backend){.abi = EMB_BACKEND_ABI,
                             .library_version = EMBED_VERSION,
                             .name = "emulated",
                             .self = f,
                             .guard_bytes = EMB_FAKE_GUARD,
                             .count = count,
                             .describe = describe,
                             .feature = feature,
                             .open = open_device,
                             .close = close_device,
                             .alloc = alloc,
                             .free = free_memory,
                             .host_alloc = host_alloc,
                             .host_free = host_free,
                             .host_map = host_map,
                             .host_unmap = host_unmap,
                             .memory_check = memory_check};
    emb_fake_fill_queue(&f->table);
    emb_fake_fill_work(&f->table);
    emb_fake_fill_graph(&f->table);
    emb_fake_fill_attention(&f->table);
    emb_fake_fill_collective(&f->table);
    *out = f;
    return EMBED_OK;
}

void emb_fake_free(emb_fake *f) {
    if (f == NULL)
        return;
    (void)pthread_mutex_destroy(&f->lock);
    const emb_env env = f->env;
    emb_free(&env, f);
}

const emb_backend *emb_fake_backend(const emb_fake *f) {
    return &f->table;
}

void emb_fake_fail(emb_fake *f, emb_fake_call call, long nth, emb_device_code code) {
    f->fail_at[call] = nth == 0 ? 0 : f->calls[call] + nth;
    f->fail_code[call] = (int)code;
}

long emb_fake_calls(const emb_fake *f, emb_fake_call call) {
    return f->calls[call];
}

long emb_fake_live(const emb_fake *f) {
    return f->live;
}

const char *emb_fake_fault(const emb_fake *f) {
    return f->fault;
}

uint64_t emb_fake_peak_bytes(const emb_fake *f) {
    return f->peak;
}

int emb_fake_peek(emb_fake *f, emb_dptr at, void *out, size_t bytes) {
    int found = 0;
    (void)pthread_mutex_lock(&f->lock);
    for (emb_be_device *d = f->devices; d != NULL && !found; d = d->next) {
        for (const fake_block *b = d->blocks; b != NULL && !found; b = b->next)
            found = at.at >= (uint64_t)(uintptr_t)b->body &&
                    at.at - (uint64_t)(uintptr_t)b->body <= b->bytes &&
                    bytes <= b->bytes - (at.at - (uint64_t)(uintptr_t)b->body);
        if (found)
            finish_work(d);
    }
    if (found) {
        emb_fake_memory_expose(f, 1);
        memcpy(out, (const void *)(uintptr_t)at.at, bytes);
        emb_fake_memory_expose(f, 0);
    }
    return emb_fake_leave(f, found);
}

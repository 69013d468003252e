/* The CUDA module on a runtime that the test controls: nothing of the caller's thread changes,
 * nothing leaks, every call that fails has a status and a message, also drivers, devices and
 * libraries that are not what is needed, and a child of fork(). */
#include "support/handles.h"

#include <sys/wait.h>
#include <unistd.h>

#include "cuda/fake_runtime.h"
#include "cuda_module/cuda_kernels.h"
#include "device/device.h"

extern const emb_backend *embed_backend_open(uint32_t abi);

#define N 64

typedef struct objects {
    emb_device *d;
    emb_stream *stream, *adopted;
    emb_event *a, *b;
    emb_graph *graph;
    emb_dptr p, mapped;
    float *host;
} objects;

static char page[4096];

static embed_status make_all(objects *o, const emb_env *env) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_device_open(&o->d, env, embed_backend_open(EMB_BACKEND_ABI), 0));
    EMB_TRY(emb_device_alloc(o->d, N * sizeof(float), &o->p));
    EMB_TRY(emb_device_host_alloc(o->d, N * sizeof(float), (void **)&o->host));
    EMB_TRY(emb_device_host_map(o->d, page, sizeof page, &o->mapped));
    EMB_TRY(emb_stream_create(&o->stream, o->d));
    EMB_TRY(emb_stream_adopt(&o->adopted, o->d, page));
    EMB_TRY(emb_device_memory_check(o->d, o->p, N));
    EMB_TRY(emb_event_create(&o->a, o->d, 1));
    EMB_TRY(emb_event_create(&o->b, o->d, 1));
fail:
    return st;
}

static embed_status capture(objects *o) {
    emb_graph_info info;
    embed_status st = emb_capture_begin(o->stream);
    if (st != EMBED_OK)
        return st;
    st = emb_set_device(o->stream, o->p, 0, N);
    const embed_status ended = emb_capture_end(o->stream, &o->graph, &info);
    return st != EMBED_OK ? st : ended;
}

static embed_status use_all(objects *o) {
    embed_status st = EMBED_OK;
    const emb_be_kernel *kernel;
    const emb_probe_args args = {o->p, N, 1};
    const emb_launch launch = {{1, 1, 1}, {N, 1, 1}, 0, sizeof args, &args};
    float ms;
    int done;
    EMB_TRY(emb_event_record(o->a, o->stream));
    EMB_TRY(emb_copy_in(o->stream, o->p, o->host, N * sizeof(float)));
    EMB_TRY(emb_set_device(o->stream, o->p, 1, N));
    EMB_TRY(emb_copy_device(o->stream, o->p, emb_dptr_add(o->p, 128), 64));
    EMB_TRY(emb_kernel_find(o->d, "device_probe", &kernel));
    EMB_TRY(emb_kernel_launch(o->stream, kernel, &launch));
    EMB_TRY(emb_stream_wait(o->adopted, o->a));
    EMB_TRY(capture(o));
    EMB_TRY(emb_graph_launch(o->graph, o->stream));
    EMB_TRY(emb_copy_out(o->stream, o->host, o->p, N * sizeof(float)));
    EMB_TRY(emb_event_record(o->b, o->stream));
    EMB_TRY(emb_event_query(o->b, &done));
    EMB_TRY(emb_event_sync(o->b));
    EMB_TRY(emb_event_elapsed(o->a, o->b, &ms));
    EMB_TRY(emb_stream_sync(o->stream));
fail:
    return st;
}

static void free_all(objects *o) {
    emb_graph_free(o->graph);
    emb_event_free(o->a);
    emb_event_free(o->b);
    emb_stream_free(o->adopted);
    emb_stream_free(o->stream);
    if (o->mapped.at != 0)
        emb_device_host_unmap(o->d, page);
    if (o->d != NULL) {
        emb_device_host_free(o->d, o->host);
        emb_device_free(o->d, o->p);
    }
    emb_device_close(o->d);
}

/* The caller's thread as it was, and nothing left of ours. */
static void check_caller(long nth, cudaError_t failure) {
    const fake_runtime *f = &fake_cuda;
    const int ours = f->last != cudaSuccess && f->last != cudaErrorInvalidConfiguration;
    if (!f->balanced || f->depth != 1 || f->mode != cudaStreamCaptureModeGlobal ||
        f->retained != 0 || f->capturing || (f->sticky == cudaSuccess && (f->live != 0 || ours)))
        fail_msg(
            "call %ld with error %d: %d contexts, mode %d, %d retained, %d left, last error %d",
            nth, (int)failure, f->depth, (int)f->mode, f->retained, f->live, (int)f->last);
}

/* The calls it took. */
static long run(long nth, cudaError_t failure, embed_status *st) {
    test_allocator memory;
    emb_env env;
    objects o;
    memset(&o, 0, sizeof o);
    fake_runtime_start();
    fake_cuda.fail_at = nth;
    fake_cuda.failure = failure;
    test_allocator_init(&memory, 0);
    assert_int_equal(emb_env_init(&env, &memory.allocator, NULL, NULL), EMBED_OK);
    *st = make_all(&o, &env);
    if (*st == EMBED_OK)
        *st = use_all(&o);
    free_all(&o);
    assert_int_equal(memory.live, 0);
    check_caller(nth, failure);
    return fake_cuda.calls;
}

static void each_call_fails(void **state) {
    static const struct {
        cudaError_t error;
        embed_status want;
    } cases[] = {{cudaErrorUnknown, EMBED_ERR_DEVICE},
                 {cudaErrorMemoryAllocation, EMBED_ERR_NOMEM},
                 {cudaErrorIllegalAddress, EMBED_ERR_DEVICE},
                 {cudaErrorECCUncorrectable, EMBED_ERR_DEVICE}};
    embed_status st;
    (void)state;
    const long calls = run(0, cudaSuccess, &st);
    TEST_OK(st);
    assert_int_equal(fake_cuda.last, cudaErrorInvalidConfiguration); /* the caller's */
    assert_true(calls > 40);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        long told = 0;
        for (long nth = 1; nth <= calls; nth++) {
            (void)run(nth, cases[c].error, &st);
            if (st == EMBED_OK)
                continue; /* where nothing depends on it, or it came while freeing */
            told++;
            assert_true(st == cases[c].want ||
                        (cases[c].want == EMBED_ERR_NOMEM && st == EMBED_ERR_DEVICE));
            assert_true(strlen(embed_last_error()) > 20);
        }
        assert_true(told > calls / 3);
    }
}

/* After a lasting error the device is dead: every call says so at once and reaches no driver. */
static void dead_for_good(void **state) {
    objects o;
    const emb_env env = test_env();
    (void)state;
    memset(&o, 0, sizeof o);
    fake_runtime_start();
    TEST_OK(make_all(&o, &env));
    fake_cuda.fail_at = fake_cuda.calls + 3;
    fake_cuda.failure = cudaErrorLaunchFailure;
    assert_int_equal(use_all(&o), EMBED_ERR_DEVICE);
    assert_false(emb_device_alive(o.d));
    const long calls = fake_cuda.calls;
    assert_int_equal(use_all(&o), EMBED_ERR_DEVICE);
    assert_non_null(strstr(embed_last_error(), "out of use since it failed"));
    assert_int_equal(fake_cuda.calls, calls);
    free_all(&o);
    assert_int_equal(fake_cuda.depth, 1);
    assert_int_equal(fake_cuda.retained, 0);
}

static void refused(int index, const char *text) {
    const emb_env env = test_env();
    emb_device *d;
    assert_int_equal(emb_device_open(&d, &env, embed_backend_open(EMB_BACKEND_ABI), index),
                     EMBED_ERR_DEVICE);
    assert_null(d);
    if (strstr(embed_last_error(), text) == NULL)
        fail_msg("expected '%s' in '%s'", text, embed_last_error());
    check_caller(0, cudaSuccess);
}

static void what_is_not_there(void **state) {
    (void)state;
    fake_runtime_start();
    fake_cuda.driver = 0;
    refused(0, "no driver: libcuda.so.1 was not found");
    fake_runtime_start();
    fake_cuda.driver = 12090;
    refused(0, "driver too old: it supports CUDA 12.9, this module needs 13.0");
    fake_runtime_start();
    fake_cuda.devices = 0;
    refused(0, "no device: the driver works, but shows no GPU");
    fake_runtime_start();
    refused(1, "expected a device below 1, found 1");
    refused(-1, "expected a device below 1, found -1");
    fake_runtime_start();
    fake_cuda.major = 7;
    refused(0, "no code for it: compute capability 7.0");
    fake_runtime_start();
    fake_cuda_missing = "cuCtxPopCurrent";
    refused(0, "the driver has no cuCtxPopCurrent");
}

static void too_little_memory(void **state) {
    const emb_env env = test_env();
    emb_device *d;
    emb_dptr p;
    (void)state;
    fake_runtime_start();
    TEST_OK(emb_device_open(&d, &env, embed_backend_open(EMB_BACKEND_ABI), 0));
    fake_cuda.free_memory = 1000;
    assert_int_equal(emb_device_alloc(d, 4096, &p), EMBED_ERR_NOMEM);
    assert_non_null(strstr(embed_last_error(), "expected 4096 bytes, found 1000 of"));
    assert_true(emb_device_alive(d));
    TEST_OK(emb_device_alloc(d, 512, &p));
    emb_device_free(d, p);
    emb_device_close(d);
    check_caller(0, cudaSuccess);
}

/* Pointers and streams of the caller's are refused by what they are, and the device goes on. */
static void of_the_caller(void **state) {
    const emb_env env = test_env();
    objects o;
    emb_stream *stream;
    (void)state;
    memset(&o, 0, sizeof o);
    fake_runtime_start();
    TEST_OK(make_all(&o, &env));
    TEST_OK(emb_device_memory_check(o.d, o.p, N * sizeof(float)));
    fake_cuda.memory_type = cudaMemoryTypeManaged;
    TEST_OK(emb_device_memory_check(o.d, o.p, 1));
    fake_cuda.memory_type = cudaMemoryTypeHost;
    test_fails(emb_device_memory_check(o.d, o.p, 8), EMBED_ERR_ARG, "found memory of the host");
    fake_cuda.memory_type = 0;
    fake_cuda.memory_device = 1;
    test_fails(emb_device_memory_check(o.d, o.p, 8), EMBED_ERR_ARG, "found memory of device 1");
    fake_cuda.foreign = 1;
    test_fails(emb_stream_adopt(&stream, o.d, page), EMBED_ERR_ARG, "another context or device");
    assert_null(stream);
    fake_cuda.foreign = 0;
    fake_cuda.captured = 1;
    test_fails(emb_stream_adopt(&stream, o.d, page), EMBED_ERR_ARG, "is being captured");
    assert_null(stream);
    fake_cuda.captured = 0;
    TEST_OK(emb_stream_adopt(&stream, o.d, page));
    emb_stream_free(stream);
    TEST_OK(use_all(&o));
    free_all(&o);
    check_caller(0, cudaSuccess);
}

/* The libraries of this test's directory: an old cuDNN, an NCCL without its calls. */
static void other_libraries(void **state) {
    const emb_env env = test_env();
    static const struct {
        emb_feature_id id;
        const char *reason;
    } cases[] = {{EMB_FEATURE_CUBLASLT, "libcublasLt.so.13 has no "},
                 {EMB_FEATURE_CUDNN, "cuDNN: expected a version from 91801 and below 100000, "
                                     "found 90100"},
                 {EMB_FEATURE_NCCL, "libnccl.so.2 has no "}};
    emb_device *d;
    (void)state;
    fake_runtime_start();
    TEST_OK(emb_device_open(&d, &env, embed_backend_open(EMB_BACKEND_ABI), 0));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        emb_feature f;
        TEST_OK(emb_device_feature(d, cases[i].id, &f));
        assert_int_equal(f.present, 0);
        if (strstr(f.reason, cases[i].reason) == NULL)
            fail_msg("expected '%s' in '%s'", cases[i].reason, f.reason);
    }
    emb_device_close(d);
    check_caller(0, cudaSuccess);
}

static int in_child(objects *o) {
    const emb_env env = test_env();
    emb_device *d;
    (void)alarm(30);
    if (emb_device_open(&d, &env, embed_backend_open(EMB_BACKEND_ABI), 0) != EMBED_ERR_DEVICE ||
        strstr(embed_last_error(), "CUDA was first used by process") == NULL)
        return 1;
    if (use_all(o) != EMBED_ERR_DEVICE)
        return 2;
    const long calls = fake_cuda.calls;
    free_all(o);
    return fake_cuda.calls != calls ? 3 : 0; /* the driver is the parent's */
}

static void a_child(void **state) {
    objects o;
    const emb_env env = test_env();
    int how;
    (void)state;
    memset(&o, 0, sizeof o);
    fake_runtime_start();
    TEST_OK(make_all(&o, &env));
    (void)fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(in_child(&o));
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    TEST_OK(use_all(&o));
    free_all(&o);
    check_caller(0, cudaSuccess);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_call_fails),
                                       cmocka_unit_test(dead_for_good),
                                       cmocka_unit_test(what_is_not_there),
                                       cmocka_unit_test(too_little_memory),
                                       cmocka_unit_test(of_the_caller),
                                       cmocka_unit_test(other_libraries),
                                       cmocka_unit_test(a_child)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Attention through cuDNN: one operation (softmax(q k^T scale) v) as a graph of the backend API,
 * whose shapes are compiled in, so that a plan serves one bucket of texts and lengths. The texts
 * lie end to end: q, k and v are views into one matrix, and tensors of int32 say where each text
 * begins (in elements) and how long it is; texts of the bucket that are not there have length 0.
 *
 * Versions: the operation and its offsets are there from 9.13; texts end to end before Hopper, and
 * with k and v of other lengths than q, need 9.18.1, which is asked for on all devices. The plan is
 * compiled at run time, in about half a second, and needs libnvrtc. */
#ifdef EMB_HAVE_CUDNN
#include <cudnn_graph.h>
#endif

#include "cuda_module/cuda_libraries.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#ifdef EMB_HAVE_CUDNN

/* Names of the tensors. */
enum { Q = 1, K, V, O, SCALE, Q_LENGTHS, K_LENGTHS, QKV_OFFSETS, O_OFFSETS };
enum { MOST_DESCRIPTORS = 24, CANDIDATES = 4, TENSORS = 9 };

struct emb_be_attention {
    emb_be_device *device;
    const struct emb_cuda_dnn *dnn;
    emb_attention_spec spec;
    emb_attention_facts facts;
    cudnnHandle_t handle; /* its stream is set at each run */
    cudnnBackendDescriptor_t all[MOST_DESCRIPTORS];
    int n;
    cudnnBackendDescriptor_t plan;
};

typedef struct builder {
    emb_be_attention *a;
    cudnnBackendDescriptor_t device; /* instead of the handle's device: for checks without one */
    cudnnStatus_t failed;
    const char *what;
} builder;

static void note(builder *b, cudnnStatus_t result, const char *what) {
    if (b->failed == CUDNN_STATUS_SUCCESS && result != CUDNN_STATUS_SUCCESS) {
        b->failed = result;
        b->what = what;
    }
}

/* All are kept until the end: the plan refers to what it was made of. */
static cudnnBackendDescriptor_t begin(builder *b, cudnnBackendDescriptorType_t type) {
    cudnnBackendDescriptor_t d = NULL;
    if (b->failed != CUDNN_STATUS_SUCCESS)
        return NULL;
    if (b->a->n == MOST_DESCRIPTORS) {
        note(b, CUDNN_STATUS_INTERNAL_ERROR, "too many descriptors");
        return NULL;
    }
    note(b, b->a->dnn->cudnnBackendCreateDescriptor(type, &d), "creating a descriptor");
    if (b->failed == CUDNN_STATUS_SUCCESS)
        b->a->all[b->a->n++] = d;
    return d;
}

static void set(builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *values) {
    if (b->failed == CUDNN_STATUS_SUCCESS)
        note(b, b->a->dnn->cudnnBackendSetAttribute(d, name, type, n, values),
             "setting an attribute");
}

static void set_one(builder *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                    cudnnBackendDescriptor_t value) {
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finish(builder *b, cudnnBackendDescriptor_t d, const char *what) {
    if (b->failed == CUDNN_STATUS_SUCCESS)
        note(b, b->a->dnn->cudnnBackendFinalize(d), what);
}

/* offsets: of the texts in it, or NULL. by_value: the number comes with the call. */
static cudnnBackendDescriptor_t tensor(builder *b, int64_t id, cudnnDataType_t type,
                                       const int64_t dims[4], const int64_t strides[4],
                                       cudnnBackendDescriptor_t offsets, bool by_value) {
    const int64_t alignment = type == CUDNN_DATA_INT32 || by_value ? 4 : 16;
    cudnnBackendDescriptor_t t = begin(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (by_value)
        set(b, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    if (offsets != NULL)
        set_one(b, t, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, offsets);
    finish(b, t, "a tensor");
    return t;
}

static cudnnBackendDescriptor_t column(builder *b, int64_t id, int64_t n) {
    const int64_t dims[4] = {n, 1, 1, 1}, strides[4] = {1, 1, 1, 1};
    return tensor(b, id, CUDNN_DATA_INT32, dims, strides, NULL, false);
}

static cudnnBackendDescriptor_t operation(builder *b) {
    const emb_attention_spec *s = &b->a->spec;
    const int64_t heads = s->heads, width = s->head_dim, row = heads * width;
    const int64_t dims[4] = {s->texts, heads, s->longest, width};
    const int64_t in[4] = {3 * row * s->longest, width, 3 * row, 1};
    const int64_t out[4] = {row * s->longest, width, row, 1};
    const int64_t one[4] = {1, 1, 1, 1};
    const cudnnDataType_t type = s->dtype == EMBED_F16 ? CUDNN_DATA_HALF : CUDNN_DATA_BFLOAT16;
    cudnnBackendDescriptor_t qkv_offsets = column(b, QKV_OFFSETS, s->texts + 1);
    cudnnBackendDescriptor_t o_offsets = column(b, O_OFFSETS, s->texts + 1);
    cudnnBackendDescriptor_t q = tensor(b, Q, type, dims, in, qkv_offsets, false);
    cudnnBackendDescriptor_t k = tensor(b, K, type, dims, in, qkv_offsets, false);
    cudnnBackendDescriptor_t v = tensor(b, V, type, dims, in, qkv_offsets, false);
    cudnnBackendDescriptor_t o = tensor(b, O, type, dims, out, o_offsets, false);
    cudnnBackendDescriptor_t scale = tensor(b, SCALE, CUDNN_DATA_FLOAT, one, one, NULL, true);
    cudnnBackendDescriptor_t q_lengths = column(b, Q_LENGTHS, s->texts);
    cudnnBackendDescriptor_t k_lengths = column(b, K_LENGTHS, s->texts);
    cudnnBackendDescriptor_t op = begin(b, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    set_one(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q);
    set_one(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k);
    set_one(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v);
    set_one(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, o);
    set_one(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    set_one(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_QDESC, q_lengths);
    set_one(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_KVDESC, k_lengths);
    finish(b, op, "the operation");
    return op;
}

static cudnnBackendDescriptor_t graph(builder *b) {
    cudnnBackendDescriptor_t op = operation(b);
    cudnnBackendDescriptor_t g = begin(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set_one(b, g, CUDNN_ATTR_OPERATIONGRAPH_OPS, op);
    if (b->device == NULL)
        set(b, g, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->a->handle);
    finish(b, g, "the graph");
    return g;
}

/* What the heuristic proposes, the best first. */
static int64_t propose(builder *b, cudnnBackendDescriptor_t g,
                       cudnnBackendDescriptor_t found[CANDIDATES]) {
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t n = 0;
    cudnnBackendDescriptor_t h = begin(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_one(b, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g);
    set(b, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (b->device != NULL)
        set_one(b, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, b->device);
    finish(b, h, "the heuristic");
    for (int i = 0; i < CANDIDATES; i++)
        found[i] = begin(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (b->failed == CUDNN_STATUS_SUCCESS)
        note(b,
             b->a->dnn->cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, CANDIDATES, &n,
                                                 found),
             "asking the heuristic");
    return b->failed == CUDNN_STATUS_SUCCESS ? n : 0;
}

/* The first proposal that can be made a plan within the workspace. */
static void plan(builder *b, const cudnnBackendDescriptor_t *configs, int64_t n) {
    cudnnStatus_t last = CUDNN_STATUS_NOT_SUPPORTED;
    for (int64_t i = 0; i < n && b->failed == CUDNN_STATUS_SUCCESS; i++) {
        int64_t bytes = 0, got = 0;
        cudnnBackendDescriptor_t p = begin(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        set_one(b, p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configs[i]);
        if (b->device != NULL)
            set_one(b, p, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, b->device);
        else
            set(b, p, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->a->handle);
        if (b->failed != CUDNN_STATUS_SUCCESS)
            return;
        last = b->a->dnn->cudnnBackendFinalize(p);
        if (last != CUDNN_STATUS_SUCCESS)
            continue;
        note(b,
             b->a->dnn->cudnnBackendGetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                 CUDNN_TYPE_INT64, 1, &got, &bytes),
             "asking for the workspace");
        if (b->failed != CUDNN_STATUS_SUCCESS || (uint64_t)bytes > b->a->spec.workspace_bytes)
            continue;
        b->a->plan = p;
        b->a->facts.workspace_bytes = (uint64_t)bytes;
        (void)snprintf(b->a->facts.algorithm, sizeof b->a->facts.algorithm,
                       "cuDNN %d, proposal %d of %d", (int)b->a->dnn->cudnnGetVersion(), (int)i + 1,
                       (int)n);
        return;
    }
    note(b, last, "a plan that fits the workspace");
}

static void build(builder *b) {
    cudnnBackendDescriptor_t configs[CANDIDATES];
    cudnnBackendDescriptor_t g = graph(b);
    const int64_t n = propose(b, g, configs);
    plan(b, configs, n);
}

static int dnn_code(const struct emb_cuda_dnn *dnn, cudnnStatus_t result, const char *what,
                    emb_device_error *err) {
    if (result == CUDNN_STATUS_SUCCESS)
        return EMB_DEVICE_OK;
    const int code = result == CUDNN_STATUS_ALLOC_FAILED ? EMB_DEVICE_NO_MEMORY
                     : (int)result >= (int)CUDNN_STATUS_NOT_SUPPORTED &&
                             (int)result < (int)CUDNN_STATUS_INTERNAL_ERROR
                         ? EMB_DEVICE_UNAVAILABLE
                     : result == CUDNN_STATUS_NOT_INITIALIZED ? EMB_DEVICE_UNAVAILABLE
                                                              : EMB_DEVICE_FAILED;
    return emb_cuda_error(err, code, "cuDNN: %s: %s", what, dnn->cudnnGetErrorString(result));
}

static void attention_free(emb_be_attention *a) {
    const embed_allocator allocator = a->device->allocator;
    emb_cuda_scope scope;
    emb_device_error ignored;
    const int code = emb_cuda_enter(&scope, a->device, &ignored);
    while (a->n > 0)
        (void)a->dnn->cudnnBackendDestroyDescriptor(a->all[--a->n]);
    if (a->handle != NULL && code == EMB_DEVICE_OK)
        (void)a->dnn->cudnnDestroy(a->handle);
    emb_cuda_leave(&scope);
    emb_cuda_delete(&allocator, a, sizeof *a);
}

static int attention_create(emb_be_device *d, const emb_attention_spec *spec,
                            emb_be_attention **out, emb_attention_facts *facts,
                            emb_device_error *err) {
    emb_cuda_scope scope;
    emb_feature feature;
    *out = NULL;
    memset(&feature, 0, sizeof feature);
    const struct emb_cuda_dnn *dnn = emb_cuda_dnn(&feature);
    if (dnn == NULL)
        return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE, "%s", feature.reason);
    emb_be_attention *a = emb_cuda_new(&d->allocator, sizeof *a, err);
    if (a == NULL)
        return EMB_DEVICE_NO_HOST;
    a->device = d;
    a->dnn = dnn;
    a->spec = *spec;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = dnn_code(dnn, dnn->cudnnCreate(&a->handle), "a handle", err);
    if (code == EMB_DEVICE_OK) {
        builder b = {.a = a, .failed = CUDNN_STATUS_SUCCESS};
        build(&b);
        code = dnn_code(dnn, b.failed, b.what, err);
    }
    emb_cuda_leave(&scope);
    if (code != EMB_DEVICE_OK) {
        attention_free(a);
        return code;
    }
    *facts = a->facts;
    *out = a;
    return EMB_DEVICE_OK;
}

static void *at(emb_dptr p, size_t bytes) {
    return (void *)(uintptr_t)(p.at + bytes);
}

static int attention_run(emb_be_attention *a, emb_be_stream *s, const emb_attention_args *args,
                         emb_device_error *err) {
    emb_cuda_scope scope;
    const size_t row = 2 * (size_t)a->spec.heads * (size_t)a->spec.head_dim;
    float scale = a->spec.scale;
    const int64_t ids[TENSORS] = {Q, K, V, O, SCALE, Q_LENGTHS, K_LENGTHS, QKV_OFFSETS, O_OFFSETS};
    void *const data[TENSORS] = {at(args->qkv, 0),
                                 at(args->qkv, row),
                                 at(args->qkv, 2 * row),
                                 at(args->out, 0),
                                 &scale,
                                 at(args->lengths, 0),
                                 at(args->lengths, 0),
                                 at(args->qkv_offsets, 0),
                                 at(args->out_offsets, 0)};
    void *const workspace = at(args->workspace, 0);
    cudnnBackendDescriptor_t pack = NULL;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK)
        code = dnn_code(a->dnn, a->dnn->cudnnSetStream(a->handle, s->stream), "the stream", err);
    if (code == EMB_DEVICE_OK) {
        const int first = a->n;
        builder b = {.a = a, .failed = CUDNN_STATUS_SUCCESS};
        pack = begin(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, TENSORS, ids);
        set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, TENSORS, data);
        set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
        finish(&b, pack, "the addresses");
        if (b.failed == CUDNN_STATUS_SUCCESS)
            note(&b, a->dnn->cudnnBackendExecute(a->handle, a->plan, pack), "running attention");
        code = dnn_code(a->dnn, b.failed, b.what, err);
        while (a->n > first)
            (void)a->dnn->cudnnBackendDestroyDescriptor(a->all[--a->n]);
    }
    emb_cuda_leave(&scope);
    return code;
}

#else /* without its header */

static int attention_create(emb_be_device *d, const emb_attention_spec *spec,
                            emb_be_attention **out, emb_attention_facts *facts,
                            emb_device_error *err) {
    (void)d;
    (void)spec;
    (void)facts;
    *out = NULL;
    return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE,
                          "this module was built without cudnn_graph.h");
}

static void attention_free(emb_be_attention *a) {
    (void)a; /* there is none */
}

static int attention_run(emb_be_attention *a, emb_be_stream *s, const emb_attention_args *args,
                         emb_device_error *err) {
    (void)a;
    (void)s;
    (void)args;
    return emb_cuda_error(err, EMB_DEVICE_MISUSE, "there is no plan to run");
}

#endif

void emb_cuda_fill_attention(emb_backend *t) {
    t->attention_create = attention_create;
    t->attention_free = attention_free;
    t->attention_run = attention_run;
}

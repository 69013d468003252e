/* Capture and replay. */
#include "cuda_module/cuda_impl.h"

/* In this mode the calls of other threads stay legal. */
static int capture_begin(emb_be_stream *s, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK && s->device->capturing != 0)
        code = emb_cuda_error(err, EMB_DEVICE_FAILED, "a capture is in progress");
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal), err);
    emb_cuda_leave(&scope); /* with the mode as it was found */
    if (code == EMB_DEVICE_OK)
        s->device->capturing = 1;
    return code;
}

static int count_node(cudaGraphNode_t node, emb_graph_info *info, emb_device_error *err) {
    enum cudaGraphNodeType type;
    struct cudaMemcpy3DParms copy;
    int code = EMB_CUDA(cudaGraphNodeGetType(node, &type), err);
    if (code != EMB_DEVICE_OK)
        return code;
    if (type == cudaGraphNodeTypeKernel) {
        info->kernels++;
    } else if (type == cudaGraphNodeTypeMemset) {
        info->sets++;
    } else if (type == cudaGraphNodeTypeMemcpy) {
        code = EMB_CUDA(cudaGraphMemcpyNodeGetParams(node, &copy), err);
        if (code == EMB_DEVICE_OK && copy.kind != cudaMemcpyDeviceToDevice)
            code = emb_cuda_error(err, EMB_DEVICE_FAILED,
                                  "a graph may not copy between host and device");
        info->copies++;
    } else if (type != cudaGraphNodeTypeEmpty) {
        code = emb_cuda_error(err, EMB_DEVICE_FAILED,
                              "a graph may hold kernels, sets and copies on the device only, found "
                              "a node of type %d",
                              (int)type);
    }
    return code;
}

static int check_nodes(emb_be_device *d, cudaGraph_t graph, emb_graph_info *info,
                       emb_device_error *err) {
    size_t n = 0;
    int code = EMB_CUDA(cudaGraphGetNodes(graph, NULL, &n), err);
    if (code != EMB_DEVICE_OK || n == 0)
        return code;
    const size_t bytes = n * sizeof(cudaGraphNode_t);
    cudaGraphNode_t *nodes = emb_cuda_new(&d->allocator, bytes, err);
    if (nodes == NULL)
        return EMB_DEVICE_NO_HOST;
    code = EMB_CUDA(cudaGraphGetNodes(graph, nodes, &n), err);
    for (size_t i = 0; i < n && code == EMB_DEVICE_OK; i++)
        code = count_node(nodes[i], info, err);
    emb_cuda_delete(&d->allocator, nodes, bytes);
    return code;
}

static int capture_end(emb_be_stream *s, emb_be_graph **out, emb_graph_info *info,
                       emb_device_error *err) {
    emb_cuda_scope scope;
    emb_be_device *d = s->device;
    cudaGraph_t graph = NULL;
    *out = NULL;
    *info = (emb_graph_info){0, 0, 0, 0};
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaStreamEndCapture(s->stream, &graph), err);
    d->capturing = 0;
    if (code == EMB_DEVICE_OK)
        code = check_nodes(d, graph, info, err);
    emb_be_graph *g = NULL;
    if (code == EMB_DEVICE_OK && (g = emb_cuda_new(&d->allocator, sizeof *g, err)) == NULL)
        code = EMB_DEVICE_NO_HOST;
    if (code == EMB_DEVICE_OK) {
        g->device = d;
        code = EMB_CUDA(cudaGraphInstantiate(&g->exec, graph, 0), err);
    }
    if (graph != NULL)
        (void)emb_cuda_tried(cudaGraphDestroy(graph));
    emb_cuda_leave(&scope);
    if (code != EMB_DEVICE_OK)
        emb_cuda_delete(&d->allocator, g, sizeof *g);
    else
        *out = g;
    return code;
}

static int graph_launch(emb_be_graph *g, emb_be_stream *s, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaGraphLaunch(g->exec, s->stream), err);
    emb_cuda_leave(&scope);
    return code;
}

static void graph_free(emb_be_graph *g) {
    emb_cuda_scope scope;
    emb_device_error ignored;
    if (g == NULL)
        return;
    if (emb_cuda_enter(&scope, g->device, &ignored) == EMB_DEVICE_OK)
        (void)EMB_CUDA(cudaGraphExecDestroy(g->exec), &ignored);
    emb_cuda_leave(&scope);
    emb_cuda_delete(&g->device->allocator, g, sizeof *g);
}

void emb_cuda_fill_graph(emb_backend *t) {
    t->capture_begin = capture_begin;
    t->capture_end = capture_end;
    t->graph_launch = graph_launch;
    t->graph_free = graph_free;
}

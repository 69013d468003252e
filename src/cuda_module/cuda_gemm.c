/* Dense products through cuBLASLt. Row-major y[m,n] = x[m,k] w[n,k]^T is column-major D[n,m] =
 * op(A) B with A = w, transposed, leading dimension k, and B = x, leading dimension k; a bias goes
 * along the rows of D, that is along n, as wanted. It must have the type of D (cublasLt.h,
 * CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE).
 *
 * The algorithm is asked for once, at planning, among those that sum each element in one sequence:
 * no split of k, whose parts could be summed otherwise in another place of the matrix. */
#include <cublasLt.h>

#include "cuda_module/cuda_libraries.h"

#include <stdio.h>
#include <string.h>

/* What a bias may be aligned to at most; the heuristic looks at the value of the pointer only. */
#define SOME_BIAS ((uintptr_t)1 << 20)

struct emb_be_gemm {
    emb_be_device *device;
    const struct emb_cuda_blas *blas;
    emb_gemm_spec spec;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulHeuristicResult_t found;
    emb_gemm_facts facts;
};

void emb_cuda_blas_free(emb_be_device *d) {
    if (d->blas != NULL)
        (void)emb_cuda_blas(NULL)->cublasLtDestroy(d->blas);
    d->blas = NULL;
}

static int blas_code(const struct emb_cuda_blas *blas, cublasStatus_t result, const char *what,
                     emb_device_error *err) {
    if (result == CUBLAS_STATUS_SUCCESS)
        return EMB_DEVICE_OK;
    const int code = result == CUBLAS_STATUS_ALLOC_FAILED      ? EMB_DEVICE_NO_MEMORY
                     : result == CUBLAS_STATUS_NOT_SUPPORTED   ? EMB_DEVICE_UNAVAILABLE
                     : result == CUBLAS_STATUS_NOT_INITIALIZED ? EMB_DEVICE_UNAVAILABLE
                                                               : EMB_DEVICE_FAILED;
    return emb_cuda_error(err, code, "%s: %s", what, blas->cublasLtGetStatusName(result));
}
#define BLAS(g, call, err) blas_code((g)->blas, (g)->blas->call, #call, err)

static cudaDataType_t type_of(int32_t dtype) {
    return dtype == EMBED_F16 ? CUDA_R_16F : dtype == EMBED_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static int describe_operation(emb_be_gemm *g, emb_device_error *err) {
    const emb_gemm_spec *s = &g->spec;
    const cublasComputeType_t compute =
        s->dtype == EMBED_F32 && s->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t in = type_of(s->dtype), out = type_of(s->y_dtype);
    const uint64_t m = (uint64_t)s->m, n = (uint64_t)s->n, k = (uint64_t)s->k;
    const void *bias = (const void *)SOME_BIAS;
    int code = BLAS(g, cublasLtMatmulDescCreate(&g->operation, compute, CUDA_R_32F), err);
    if (code == EMB_DEVICE_OK)
        code = BLAS(g,
                    cublasLtMatmulDescSetAttribute(g->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                   &transposed, sizeof transposed),
                    err);
    if (code == EMB_DEVICE_OK && s->bias)
        code = BLAS(g,
                    cublasLtMatmulDescSetAttribute(g->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                   &epilogue, sizeof epilogue),
                    err);
    if (code == EMB_DEVICE_OK && s->bias)
        code = BLAS(g,
                    cublasLtMatmulDescSetAttribute(
                        g->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof out),
                    err);
    if (code == EMB_DEVICE_OK && s->bias)
        code = BLAS(g,
                    cublasLtMatmulDescSetAttribute(g->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                   &bias, sizeof bias),
                    err);
    if (code == EMB_DEVICE_OK)
        code = BLAS(g, cublasLtMatrixLayoutCreate(&g->a, in, k, n, s->k), err);
    if (code == EMB_DEVICE_OK)
        code = BLAS(g, cublasLtMatrixLayoutCreate(&g->b, in, k, m, s->k), err);
    if (code == EMB_DEVICE_OK)
        code = BLAS(g, cublasLtMatrixLayoutCreate(&g->d, out, n, m, s->n), err);
    return code;
}

static int choose_algorithm(emb_be_gemm *g, emb_device_error *err) {
    cublasLtMatmulPreference_t preference = NULL;
    const uint64_t most = g->spec.workspace_bytes;
    const uint32_t one_sequence = CUBLASLT_REDUCTION_SCHEME_NONE;
    int results = 0;
    int code = BLAS(g, cublasLtMatmulPreferenceCreate(&preference), err);
    if (code != EMB_DEVICE_OK)
        return code;
    code = BLAS(g,
                cublasLtMatmulPreferenceSetAttribute(
                    preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
                err);
    if (code == EMB_DEVICE_OK)
        code = BLAS(g,
                    cublasLtMatmulPreferenceSetAttribute(preference,
                                                         CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                         &one_sequence, sizeof one_sequence),
                    err);
    if (code == EMB_DEVICE_OK)
        code = BLAS(g,
                    cublasLtMatmulAlgoGetHeuristic(g->device->blas, g->operation, g->a, g->b, g->d,
                                                   g->d, preference, 1, &g->found, &results),
                    err);
    if (code == EMB_DEVICE_OK && results > 0)
        code =
            blas_code(g->blas, g->found.state, "cublasLtMatmulAlgoGetHeuristic: its result", err);
    if (code == EMB_DEVICE_OK && results < 1)
        code = emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE,
                              "cublasLt knows no algorithm for %lld x %lld x %lld",
                              (long long)g->spec.m, (long long)g->spec.n, (long long)g->spec.k);
    (void)g->blas->cublasLtMatmulPreferenceDestroy(preference);
    return code;
}

/* For records of measurements: what was chosen. */
static void name_algorithm(emb_be_gemm *g) {
    int32_t id = -1, tile = -1, split = -1, stages = -1;
    size_t written;
    const struct {
        cublasLtMatmulAlgoConfigAttributes_t attribute;
        int32_t *to;
    } parts[] = {{CUBLASLT_ALGO_CONFIG_ID, &id},
                 {CUBLASLT_ALGO_CONFIG_TILE_ID, &tile},
                 {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split},
                 {CUBLASLT_ALGO_CONFIG_STAGES_ID, &stages}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        (void)g->blas->cublasLtMatmulAlgoConfigGetAttribute(
            &g->found.algo, parts[i].attribute, parts[i].to, sizeof *parts[i].to, &written);
    g->facts.workspace_bytes = g->found.workspaceSize;
    (void)snprintf(g->facts.algorithm, sizeof g->facts.algorithm,
                   "cublasLt algorithm %d, tile %d, stages %d, split %d", id, tile, stages, split);
}

static void gemm_free(emb_be_gemm *g) {
    const embed_allocator allocator = g->device->allocator;
    if (g->d != NULL)
        (void)g->blas->cublasLtMatrixLayoutDestroy(g->d);
    if (g->b != NULL)
        (void)g->blas->cublasLtMatrixLayoutDestroy(g->b);
    if (g->a != NULL)
        (void)g->blas->cublasLtMatrixLayoutDestroy(g->a);
    if (g->operation != NULL)
        (void)g->blas->cublasLtMatmulDescDestroy(g->operation);
    emb_cuda_delete(&allocator, g, sizeof *g);
}

static int gemm_create(emb_be_device *d, const emb_gemm_spec *spec, emb_be_gemm **out,
                       emb_gemm_facts *facts, emb_device_error *err) {
    emb_cuda_scope scope;
    emb_feature feature;
    *out = NULL;
    memset(&feature, 0, sizeof feature);
    const struct emb_cuda_blas *blas = emb_cuda_blas(&feature);
    if (blas == NULL)
        return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE, "%s", feature.reason);
    emb_be_gemm *g = emb_cuda_new(&d->allocator, sizeof *g, err);
    if (g == NULL)
        return EMB_DEVICE_NO_HOST;
    g->device = d;
    g->blas = blas;
    g->spec = *spec;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK && d->blas == NULL)
        code = BLAS(g, cublasLtCreate((cublasLtHandle_t *)&d->blas), err);
    if (code == EMB_DEVICE_OK)
        code = describe_operation(g, err);
    if (code == EMB_DEVICE_OK)
        code = choose_algorithm(g, err);
    emb_cuda_leave(&scope);
    if (code != EMB_DEVICE_OK) {
        gemm_free(g);
        return code;
    }
    name_algorithm(g);
    *facts = g->facts;
    *out = g;
    return EMB_DEVICE_OK;
}

/* One and zero live here because captures keep the values, not the addresses. */
static int gemm_run(emb_be_gemm *g, emb_be_stream *s, const emb_gemm_args *args,
                    emb_device_error *err) {
    emb_cuda_scope scope;
    const float alpha = 1, beta = g->spec.residual ? 1 : 0;
    void *y = (void *)(uintptr_t)args->y.at;
    const void *c = g->spec.residual ? (const void *)(uintptr_t)args->residual.at : y;
    const void *bias = (const void *)(uintptr_t)args->bias.at;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK && g->spec.bias)
        code = BLAS(g,
                    cublasLtMatmulDescSetAttribute(g->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                   &bias, sizeof bias),
                    err);
    if (code == EMB_DEVICE_OK)
        code = BLAS(g,
                    cublasLtMatmul(s->device->blas, g->operation, &alpha,
                                   (const void *)(uintptr_t)args->w.at, g->a,
                                   (const void *)(uintptr_t)args->x.at, g->b, &beta, c, g->d, y,
                                   g->d, &g->found.algo, (void *)(uintptr_t)args->workspace.at,
                                   g->facts.workspace_bytes, s->stream),
                    err);
    emb_cuda_leave(&scope);
    return code;
}

void emb_cuda_fill_gemm(emb_backend *t) {
    t->gemm_create = gemm_create;
    t->gemm_free = gemm_free;
    t->gemm_run = gemm_run;
}

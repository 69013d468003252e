#include "kernels/router_topk/router_topk.h"

#include <string.h>

#include "kernels/gemm/gemm_tile.h"
#include "kernels/isa.h"
#include "kernels/rows.h"

enum { BLOCK = 32 }; /* tokens of a task: their logits and one panel of weights are the scratch */

struct job {
    const emb_exec *exec;
    const emb_router_topk_args *args;
    const emb_gemm_tile *tile;
};

size_t emb_router_topk_scratch_bytes(const emb_isa *isa, int64_t experts) {
    const size_t panel = EMB_GEMM_KC * (size_t)isa->tile->nr;
    return emb_round_up((panel + BLOCK * (size_t)experts) * sizeof(float), EMB_ALIGN);
}

static const void *weight_at(const emb_matrix *w, int64_t row, int64_t col) {
    const int64_t size = w->dtype == EMBED_F32 ? 4 : 2;
    return (const char *)w->data + (row * w->cols + col) * size;
}

static void run_task(void *arg, size_t task, int thread) {
    const struct job *job = arg;
    const emb_router_topk_args *a = job->args;
    const int64_t experts = a->w.rows, dim = a->w.cols, nr = job->tile->nr;
    const int64_t first = (int64_t)task * BLOCK;
    const int64_t m = a->tokens - first < BLOCK ? a->tokens - first : BLOCK;
    float *panel = emb_exec_scratch(job->exec, thread);
    float *logits = panel + EMB_GEMM_KC * nr;
    for (int64_t e = 0; e < experts; e += nr)
        for (int64_t k = 0; k < dim; k += EMB_GEMM_KC) {
            const int64_t n = experts - e < nr ? experts - e : nr;
            const int64_t kc = dim - k < EMB_GEMM_KC ? dim - k : EMB_GEMM_KC;
            job->tile->pack_nt(panel, weight_at(&a->w, e, k), dim, a->w.dtype, n, kc);
            job->tile->multiply(m, n, kc, a->x + first * dim + k, dim, panel, logits + e, experts,
                                k > 0);
        }
    if (a->bias != NULL)
        for (int64_t t = 0; t < m; t++)
            for (int64_t e = 0; e < experts; e++)
                logits[t * experts + e] += a->bias[e];
    job->exec->isa->rows->choose(logits, m, (int32_t)experts, a->top_k, a->renormalize,
                                 a->gate + first * a->top_k, a->expert + first * a->top_k);
}

/* Stable counting sort of the pairs (token, choice) by expert. */
static void group(const emb_router_topk_args *a) {
    const int64_t experts = a->w.rows;
    int32_t next[EMB_MAX_EXPERTS] = {0};
    memset(a->gate_sum, 0, (size_t)experts * sizeof *a->gate_sum);
    for (int64_t i = 0; i < a->tokens * a->top_k; i++) {
        next[a->expert[i]]++;
        a->gate_sum[a->expert[i]] += (double)a->gate[i];
    }
    a->offset[0] = 0;
    for (int64_t e = 0; e < experts; e++) {
        a->offset[e + 1] = a->offset[e] + next[e];
        next[e] = a->offset[e];
    }
    for (int64_t t = 0; t < a->tokens; t++)
        for (int64_t i = t * a->top_k; i < (t + 1) * a->top_k; i++) {
            a->slot[i] = next[a->expert[i]]++;
            a->rows[a->slot[i]] = (int32_t)t;
        }
}

embed_status emb_router_topk(emb_exec *exec, const emb_router_topk_args *args) {
    struct job job = {exec, args, exec->isa->tile};
    if (args->w.rows < 1 || args->w.rows > EMB_MAX_EXPERTS || args->top_k < 1 ||
        args->top_k > args->w.rows || args->tokens < 0)
        return emb_fail(EMBED_ERR_INTERNAL, "router: top %d of %lld experts", (int)args->top_k,
                        (long long)args->w.rows);
    if (exec->scratch_bytes < emb_router_topk_scratch_bytes(exec->isa, args->w.rows))
        return emb_fail(EMBED_ERR_INTERNAL, "router: scratch of %zu bytes for %lld experts",
                        exec->scratch_bytes, (long long)args->w.rows);
    emb_pool_run(exec->pool, (size_t)((args->tokens + BLOCK - 1) / BLOCK), run_task, &job);
    group(args);
    return EMBED_OK;
}

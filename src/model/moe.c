#include "kernels/moe_combine/moe_combine.h"
#include "kernels/router_topk/router_topk.h"
#include "model/forward.h"

/* What the router decided for a batch; arrays in the arena, see kernels/router_topk. */
struct routing {
    float *gate;
    int32_t *expert, *slot, *rows, *offset;
    double *gate_sum;
    emb_gemm_group *groups; /* [experts] */
};

static struct routing routing_of(const emb_forward *f) {
    const emb_regions *at = &f->plan.at;
    return (struct routing){
        .gate = emb_forward_at(f, at->gate),
        .expert = emb_forward_at(f, at->expert),
        .slot = emb_forward_at(f, at->slot),
        .rows = emb_forward_at(f, at->rows),
        .offset = emb_forward_at(f, at->expert_offset),
        .gate_sum = emb_forward_at(f, at->gate_sum),
        .groups = emb_forward_at(f, at->groups),
    };
}

static void count(emb_forward *f, const struct routing *r, int32_t moe_layer) {
    const int32_t experts = f->model->config.encoder.experts;
    uint64_t *tokens = f->counts.tokens + (size_t)moe_layer * (size_t)experts;
    double *gate_sum = f->counts.gate_sum + (size_t)moe_layer * (size_t)experts;
    for (int32_t e = 0; e < experts; e++) {
        tokens[e] += (uint64_t)(r->offset[e + 1] - r->offset[e]);
        gate_sum[e] += r->gate_sum[e];
    }
}

/* End of the part that starts at slot `lo`: as many whole experts as there is room for, or a piece
 * of one. Parts end between experts where possible, since each part reads the weights of each of
 * its experts once. */
static int32_t part_end(const int32_t *offset, int32_t experts, int32_t lo, int64_t room) {
    int32_t end = lo;
    for (int32_t e = 0; e < experts; e++)
        if (offset[e + 1] > lo && offset[e + 1] - lo <= room)
            end = offset[e + 1];
    return end > lo ? end : lo + (int32_t)room;
}

/* Slots lo .. end through their experts: inner = act(w1 x[row]), out = w2 inner; one group per
 * expert that has slots here. */
static embed_status run_slots(emb_forward *f, const emb_layer_weights *l, const struct routing *r,
                              int32_t lo, int32_t end) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    float *inner = emb_forward_at(f, f->plan.at.inner);
    float *out = emb_forward_at(f, f->plan.at.expert_out);
    for (int pass = 0; pass < 2; pass++) {
        size_t n = 0;
        for (int32_t e = 0; e < c->experts; e++) {
            const int32_t from = r->offset[e] > lo ? r->offset[e] : lo;
            const int32_t to = r->offset[e + 1] < end ? r->offset[e + 1] : end;
            float *in_part = inner + (int64_t)(from - lo) * c->inner;
            if (from >= to)
                continue;
            if (pass == 0)
                r->groups[n++] = (emb_gemm_group){
                    .w = &l->expert_up[e],
                    .x = emb_forward_states(f),
                    .x_rows = r->rows + from,
                    .y = in_part,
                    .m = to - from,
                    .ldx = c->hidden,
                    .ldy = c->inner,
                };
            else
                r->groups[n++] = (emb_gemm_group){
                    .w = &l->expert_down[e],
                    .x = in_part,
                    .y = out + (int64_t)from * c->hidden,
                    .m = to - from,
                    .ldx = c->inner,
                    .ldy = c->hidden,
                };
        }
        EMB_TRY(emb_gemm(&f->exec, r->groups, n,
                         pass == 0 ? (emb_activation)c->expert_activation : EMB_ACT_NONE));
    }
fail:
    return st;
}

/* y[t] = sum_j gate[t,j] * expert_j(x[t]) + bias over the top_k experts of each token
 * (contrastors layers/moe.py; Nussbaum & Duderstadt 2025, arXiv:2502.07972, sec. 3). Only the
 * chosen experts' rows are multiplied. */
embed_status emb_ffn_moe(emb_forward *f, const emb_batch *b, const emb_layer_weights *l,
                         int32_t moe_layer, const float **update) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    const struct routing r = routing_of(f);
    float *y = emb_forward_at(f, f->plan.at.y);
    EMB_TRY(emb_router_topk(&f->exec, &(emb_router_topk_args){
                                          .x = emb_forward_states(f),
                                          .w = l->router,
                                          .bias = l->router_bias,
                                          .tokens = b->tokens,
                                          .top_k = c->top_k,
                                          .renormalize = c->renormalize,
                                          .gate = r.gate,
                                          .expert = r.expert,
                                          .slot = r.slot,
                                          .rows = r.rows,
                                          .offset = r.offset,
                                          .gate_sum = r.gate_sum,
                                      }));
    count(f, &r, moe_layer);
    const int32_t slots = r.offset[c->experts];
    for (int32_t lo = 0, end; lo < slots; lo = end) {
        end = part_end(r.offset, c->experts, lo, f->plan.inner_rows);
        EMB_TRY(run_slots(f, l, &r, lo, end));
    }
    EMB_TRY(emb_moe_combine(&f->exec, &(emb_moe_combine_args){
                                          .o = emb_forward_at(f, f->plan.at.expert_out),
                                          .gate = r.gate,
                                          .slot = r.slot,
                                          .bias = l->expert_bias,
                                          .y = y,
                                          .tokens = b->tokens,
                                          .dim = c->hidden,
                                          .top_k = c->top_k,
                                      }));
    *update = y;
fail:
    return st;
}

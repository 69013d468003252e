/* router_topk_rows: from router logits to chosen experts and their weights. */
#ifndef EMB_KERNELS_ROUTER_TOPK_ROWS_H
#define EMB_KERNELS_ROUTER_TOPK_ROWS_H

#include <math.h>

#include "kernels/attention/attention_rows.h"
#include "kernels/router_topk/router_topk.h"

/* The top_k largest, ties to the lower expert; distinct and in range whatever the values (NaN). */
static void choose_row(const float *p, int32_t experts, int32_t top_k, float *gate,
                       int32_t *expert) {
    unsigned char taken[EMB_MAX_EXPERTS] = {0};
    for (int32_t j = 0; j < top_k; j++) {
        int32_t best = -1;
        for (int32_t e = 0; e < experts; e++)
            if (!taken[e] && (best < 0 || p[e] > p[best]))
                best = e;
        taken[best] = 1;
        expert[j] = best;
        gate[j] = p[best];
    }
}

static void choose_rows(float *logits, int64_t rows, int32_t experts, int32_t top_k,
                        int32_t renormalize, float *gate, int32_t *expert) {
    for (int64_t t = 0; t < rows; t++) {
        float *p = logits + t * experts, *g = gate + t * top_k;
        float sum;
        exponential_rows(p, experts, 1, experts, 1.0f, &sum);
        divide_rows(p, experts, 1, experts, &sum);
        choose_row(p, experts, top_k, g, expert + t * top_k);
        if (!renormalize)
            continue;
        float chosen = 0.0f;
        for (int32_t j = 0; j < top_k; j++)
            chosen += g[j];
        for (int32_t j = 0; j < top_k; j++)
            g[j] /= chosen;
    }
}

#endif

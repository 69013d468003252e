#include "kernels/moe_exchange/moe_exchange.h"

#include <string.h>

static void copy_row(void *to, int64_t at, const void *from, int64_t row, int64_t bytes) {
    memcpy((char *)to + at * bytes, (const char *)from + row * bytes, (size_t)bytes);
}

void emb_moe_dispatch(const emb_cuda_moe_dispatch_args *a) {
    int32_t at = 0;
    for (int32_t d = 0; d < a->ranks; d++)
        for (int32_t e = d; e < a->experts; e += a->ranks)
            a->counts[at++] = a->tokens > 0 ? a->offset[e + 1] - a->offset[e] : 0;
    for (int64_t pair = 0; pair < a->tokens * a->top_k; pair++) {
        const int32_t e = a->expert[pair], d = e % a->ranks;
        int32_t place = (int32_t)a->tokens * emb_moe_before(a->experts, a->ranks, a->top_k, d) +
                        a->slot[pair] - a->offset[e];
        for (int32_t other = d; other < e; other += a->ranks)
            place += a->offset[other + 1] - a->offset[other];
        a->place[pair] = place;
        copy_row(a->send, place, a->x, pair / a->top_k, a->row_bytes);
    }
}

void emb_moe_collect(const emb_cuda_moe_collect_args *a) {
    int32_t at = 0;
    for (int32_t i = 0; i < a->first[a->ranks]; i++)
        a->place[i] = -1;
    for (int32_t l = 0; l < a->experts; l++) {
        a->offset[l] = at;
        for (int32_t s = 0; s < a->ranks; s++) {
            int32_t row = a->first[s];
            for (int32_t other = 0; other < l; other++)
                row += a->counts[s * a->experts + other];
            for (int32_t i = 0; i < a->counts[s * a->experts + l]; i++) {
                a->place[row] = at;
                a->rows[at++] = row++;
            }
        }
    }
    a->offset[a->experts] = at;
}

void emb_moe_return(const emb_cuda_moe_return_args *a) {
    for (int64_t i = 0; i < a->rows; i++)
        if (a->place[i] >= 0)
            copy_row(a->out, i, a->y, a->place[i], a->row_bytes);
}

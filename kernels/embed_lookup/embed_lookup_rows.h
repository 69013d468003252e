/* embed_lookup_rows: word + position + type of a token, then layer norm. */
#ifndef EMB_KERNELS_EMBED_LOOKUP_ROWS_H
#define EMB_KERNELS_EMBED_LOOKUP_ROWS_H

#include "kernels/embed_lookup/embed_lookup.h"
#include "kernels/layernorm/layernorm_rows.h"

/* The parts of one row's sum, in order; NULL or data == NULL: left out. */
struct lookup_parts {
    const emb_matrix *matrix[3]; /* word, position, type */
    int64_t row[3];
    const float *extra; /* after the word embedding or instead of it */
};

static inline emb_v lookup_lanes(const struct lookup_parts *p, int64_t dim, int64_t i, int64_t n) {
    emb_v s = v_set1(0.0f);
    int parts = 0;
    if (p->matrix[0] != NULL) {
        s = v_load_weight(p->matrix[0]->data, p->matrix[0]->dtype, p->row[0] * dim + i, n);
        parts = 1;
    }
    if (p->extra != NULL) {
        const emb_v e = n < EMB_LANES ? v_load_n(p->extra + i, n) : v_load(p->extra + i);
        s = parts ? v_add(s, e) : e;
    }
    for (int m = 1; m < 3; m++)
        if (p->matrix[m]->data != NULL)
            s = v_add(
                s, v_load_weight(p->matrix[m]->data, p->matrix[m]->dtype, p->row[m] * dim + i, n));
    return s;
}

static void embed_lookup_rows(const void *args, int64_t first, int64_t end) {
    const emb_embed_lookup_args *a = args;
    const int64_t whole = a->dim / EMB_LANES * EMB_LANES, rest = a->dim - whole;
    for (int64_t t = first; t < end; t++) {
        const float *extra = a->rows != NULL ? a->rows[t] : NULL;
        const int replaced = extra != NULL && !a->add_rows;
        const struct lookup_parts p = {
            {replaced ? NULL : &a->word, &a->position, &a->type},
            {a->ids[t], a->position.data != NULL ? a->positions[t] : 0, 0},
            extra,
        };
        float *x = a->x + t * a->dim;
        emb_v sum = v_set1(0.0f);
        for (int64_t i = 0; i < whole; i += EMB_LANES) {
            const emb_v s = lookup_lanes(&p, a->dim, i, EMB_LANES);
            v_store(x + i, s);
            sum = v_add(sum, s);
        }
        if (rest > 0) {
            const emb_v s = lookup_lanes(&p, a->dim, whole, rest);
            v_store_n(x + whole, s, rest);
            sum = v_add(sum, s);
        }
        if (a->gamma != NULL)
            normalize_row(x, x, sum, a->dim, a->gamma, a->beta, a->eps);
    }
}

#endif

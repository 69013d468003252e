#include "kernels/pool/pool.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 128 }; /* dimensions summed at once, on the stack */

struct job {
    const emb_pool_args *args;
};

/* One text and the tokens of it that count: first .. last, numbered within the text. */
struct span {
    const float *x; /* its first token */
    int64_t first, count, dim;
};

typedef void (*pool_fn)(float *out, const struct span *s, int64_t at, int64_t n);

static void pool_cls(float *out, const struct span *s, int64_t at, int64_t n) {
    memcpy(out, s->x + s->first * s->dim + at, (size_t)n * sizeof *out);
}

static void pool_last(float *out, const struct span *s, int64_t at, int64_t n) {
    memcpy(out, s->x + (s->count - 1) * s->dim + at, (size_t)n * sizeof *out);
}

static void pool_max(float *out, const struct span *s, int64_t at, int64_t n) {
    memcpy(out, s->x + s->first * s->dim + at, (size_t)n * sizeof *out);
    for (int64_t t = s->first + 1; t < s->count; t++) {
        const float *x = s->x + t * s->dim + at;
        for (int64_t i = 0; i < n; i++)
            out[i] = out[i] > x[i] ? out[i] : x[i];
    }
}

/* out = sum_t weight(t) x[t] / divisor, weight(t) = t + 1 if `weighted`, else 1. */
static void pool_sum(float *out, const struct span *s, int64_t at, int64_t n, int weighted,
                     double divisor) {
    double sum[WIDTH] = {0};
    for (int64_t t = s->first; t < s->count; t++) {
        const float *x = s->x + t * s->dim + at;
        const double weight = weighted ? (double)(t + 1) : 1.0;
        for (int64_t i = 0; i < n; i++)
            sum[i] += weight * (double)x[i];
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(sum[i] / divisor);
}

static void pool_mean(float *out, const struct span *s, int64_t at, int64_t n) {
    pool_sum(out, s, at, n, 0, (double)(s->count - s->first));
}

static void pool_mean_sqrt(float *out, const struct span *s, int64_t at, int64_t n) {
    pool_sum(out, s, at, n, 0, sqrt((double)(s->count - s->first)));
}

static void pool_weighted_mean(float *out, const struct span *s, int64_t at, int64_t n) {
    const double last = (double)s->count, first = (double)s->first;
    pool_sum(out, s, at, n, 1, (last * (last + 1.0) - first * (first + 1.0)) / 2.0);
}

static void run_text(void *arg, size_t text, int thread) {
    static const struct {
        int32_t mode;
        pool_fn fn;
    } modes[] = {{EMBED_POOL_CLS, pool_cls},
                 {EMBED_POOL_MAX, pool_max},
                 {EMBED_POOL_MEAN, pool_mean},
                 {EMBED_POOL_MEAN_SQRT, pool_mean_sqrt},
                 {EMBED_POOL_WEIGHTED_MEAN, pool_weighted_mean},
                 {EMBED_POOL_LAST, pool_last}};
    const emb_pool_args *a = ((struct job *)arg)->args;
    const struct span s = {a->x + a->offsets[text] * a->dim, a->skip != NULL ? a->skip[text] : 0,
                           a->offsets[text + 1] - a->offsets[text], a->dim};
    float *out = a->out + (int64_t)text * a->ldo;
    (void)thread;
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        if (!(a->modes & modes[m].mode))
            continue;
        for (int64_t at = 0; at < a->dim; at += WIDTH)
            modes[m].fn(out + at, &s, at, a->dim - at < WIDTH ? a->dim - at : WIDTH);
        out += a->dim;
    }
}

embed_status emb_pool_texts(emb_exec *exec, const emb_pool_args *args) {
    struct job job = {args};
    emb_pool_run(exec->pool, (size_t)args->texts, run_text, &job);
    return EMBED_OK;
}

void emb_l2_normalize(float *x, int64_t rows, int64_t dim, int64_t ldx) {
    for (int64_t t = 0; t < rows; t++, x += ldx) {
        double sum = 0.0;
        for (int64_t i = 0; i < dim; i++)
            sum += (double)x[i] * (double)x[i];
        const double norm = sum > 1e-24 ? sqrt(sum) : 1e-12;
        for (int64_t i = 0; i < dim; i++)
            x[i] = (float)((double)x[i] / norm);
    }
}

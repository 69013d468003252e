#include "support/reference.h"

struct net {
    const tiny_model *m;
    int n, d;            /* tokens, width */
    const double *words; /* [n, d] instead of the checkpoint's word embeddings, or NULL */
    double gap;          /* see reference_router_gap */
};

static double *zeros(size_t n) {
    double *p = calloc(n, sizeof *p);
    assert_non_null(p);
    return p;
}

/* y[t, o] = sum_i x[t, i] w[o, i] + b[o] */
static void linear(const double *x, int n, int in, int out, const float *w, const float *b,
                   double *y) {
    for (int t = 0; t < n; t++)
        for (int o = 0; o < out; o++) {
            double sum = b != NULL ? (double)b[o] : 0;
            for (int i = 0; i < in; i++)
                sum += x[t * in + i] * (double)w[o * in + i];
            y[t * out + o] = sum;
        }
}

static void layer_norm(const struct net *r, double *x, const float *gamma, const float *beta) {
    for (int t = 0; t < r->n; t++) {
        double mean = 0, variance = 0;
        for (int i = 0; i < r->d; i++)
            mean += x[t * r->d + i] / r->d;
        for (int i = 0; i < r->d; i++)
            variance += pow(x[t * r->d + i] - mean, 2) / r->d;
        for (int i = 0; i < r->d; i++)
            x[t * r->d + i] =
                (x[t * r->d + i] - mean) / sqrt(variance + r->m->spec.eps) * (double)gamma[i] +
                (double)beta[i];
    }
}

static double activate(const char *name, double x) {
    if (strcmp(name, "gelu") == 0 || strcmp(name, "geglu") == 0)
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    if (strcmp(name, "swiglu") == 0 || strcmp(name, "silu") == 0)
        return x / (1 + exp(-x));
    if (strcmp(name, "glu") == 0)
        return 1 / (1 + exp(-x));
    fail_msg("no activation %s in the reference", name);
    return 0;
}

/* Dimension i turns with i + rotary/2 by position * base^(-2i / rotary). */
static void rotate(const struct net *r, double *head, int position) {
    const tiny_spec *s = &r->m->spec;
    const int rotary = (int)(r->d / s->heads * s->rotary_fraction), half = rotary / 2;
    for (int i = 0; i < half; i++) {
        const double angle = position * pow(s->rotary_base, -2.0 * i / rotary);
        const double a = head[i], b = head[i + half];
        head[i] = a * cos(angle) - b * sin(angle);
        head[i + half] = b * cos(angle) + a * sin(angle);
    }
}

/* out = softmax(q k^T / sqrt(hd)) v per head; q, k, v [n, d] */
static void attend(const struct net *r, double *q, double *k, const double *v, double *out) {
    const int heads = r->m->spec.heads, hd = r->d / heads, n = r->n, d = r->d;
    double *p = zeros((size_t)n);
    for (int h = 0; h < heads; h++) {
        for (int t = 0; t < n && r->m->spec.arch == TINY_NOMIC; t++) {
            rotate(r, q + t * d + h * hd, t);
            rotate(r, k + t * d + h * hd, t);
        }
        for (int t = 0; t < n; t++) {
            double sum = 0;
            for (int u = 0; u < n; u++) {
                double score = 0;
                for (int i = 0; i < hd; i++)
                    score += q[t * d + h * hd + i] * k[u * d + h * hd + i];
                sum += p[u] = exp(score / sqrt(hd));
            }
            for (int i = 0; i < hd; i++) {
                out[t * d + h * hd + i] = 0;
                for (int u = 0; u < n; u++)
                    out[t * d + h * hd + i] += p[u] / sum * v[u * d + h * hd + i];
            }
        }
    }
    free(p);
}

static void add_to(double *x, const double *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

/* Tensor name of layer `i`: nomic and BERT spell the same things differently. */
static const float *part(const struct net *r, int i, const char *nomic, const char *bert,
                         const char *kind) {
    return r->m->spec.arch == TINY_NOMIC
               ? tiny_model_tensor(r->m, "encoder.layers.%d.%s.%s", i, nomic, kind)
               : tiny_model_tensor(r->m, "encoder.layer.%d.%s.%s", i, bert, kind);
}

static void attention(const struct net *r, int i, double *x) {
    const size_t size = (size_t)r->n * (size_t)r->d;
    double *qkv[3], *heads = zeros(size), *out = zeros(size);
    static const char *const names[] = {"attention.self.query", "attention.self.key",
                                        "attention.self.value"};
    const float *w = part(r, i, "attn.Wqkv", "", "weight");
    const float *b = part(r, i, "attn.Wqkv", "", "bias");
    for (int j = 0; j < 3; j++) {
        qkv[j] = zeros(size);
        const float *wj = w != NULL ? w + j * r->d * r->d : part(r, i, "", names[j], "weight");
        const float *bj =
            w != NULL ? (b != NULL ? b + j * r->d : NULL) : part(r, i, "", names[j], "bias");
        linear(x, r->n, r->d, r->d, wj, bj, qkv[j]);
    }
    attend(r, qkv[0], qkv[1], qkv[2], heads);
    linear(heads, r->n, r->d, r->d, part(r, i, "attn.out_proj", "attention.output.dense", "weight"),
           part(r, i, "attn.out_proj", "attention.output.dense", "bias"), out);
    add_to(x, out, size);
    for (int j = 0; j < 3; j++)
        free(qkv[j]);
    free(heads);
    free(out);
}

static void dense_mlp(const struct net *r, int i, double *x) {
    const tiny_spec *s = &r->m->spec;
    const size_t size = (size_t)r->n * (size_t)s->inner;
    const char *up = s->gated ? "mlp.fc11" : "mlp.fc1";
    double *inner = zeros(size), *gate = zeros(size), *out = zeros((size_t)(r->n * r->d));
    linear(x, r->n, r->d, s->inner, part(r, i, up, "intermediate.dense", "weight"),
           part(r, i, up, "intermediate.dense", "bias"), inner);
    if (s->gated)
        linear(x, r->n, r->d, s->inner, part(r, i, "mlp.fc12", "", "weight"),
               part(r, i, "mlp.fc12", "", "bias"), gate);
    for (size_t j = 0; j < size; j++)
        inner[j] = s->gated ? inner[j] * activate(s->activation, gate[j])
                            : activate(s->activation, inner[j]);
    linear(inner, r->n, s->inner, r->d, part(r, i, "mlp.fc2", "output.dense", "weight"),
           part(r, i, "mlp.fc2", "output.dense", "bias"), out);
    add_to(x, out, (size_t)(r->n * r->d));
    free(inner);
    free(gate);
    free(out);
}

/* x[t] += gate * (act(x[t] w1^T) w2) of expert e */
static void run_expert(const struct net *r, const double *x, int e, double gate, const float *w1,
                       const float *w2, double *out) {
    const int inner = r->m->spec.inner;
    for (int j = 0; j < inner; j++) {
        const float *up = w1 + ((size_t)e * (size_t)inner + (size_t)j) * (size_t)r->d;
        const float *down = w2 + ((size_t)e * (size_t)inner + (size_t)j) * (size_t)r->d;
        double h = 0;
        for (int i = 0; i < r->d; i++)
            h += x[i] * (double)up[i];
        h = activate(r->m->spec.activation, h);
        for (int i = 0; i < r->d; i++)
            out[i] += gate * h * (double)down[i];
    }
}

/* softmax over all experts, the top_k largest, not renormalised unless asked for */
static void moe_mlp(struct net *r, int i, double *x) {
    const tiny_spec *s = &r->m->spec;
    const float *w1 = tiny_model_tensor(r->m, "encoder.layers.%d.mlp.experts.mlp.w1", i);
    const float *w2 = tiny_model_tensor(r->m, "encoder.layers.%d.mlp.experts.mlp.w2", i);
    const float *bias = tiny_model_tensor(r->m, "encoder.layers.%d.mlp.experts.bias", i);
    double *p = zeros((size_t)s->experts), *out = zeros((size_t)r->d);
    for (int t = 0; t < r->n; t++) {
        double sum = 0, chosen = 0, last = 1;
        int top[16];
        linear(x + t * r->d, 1, r->d, s->experts,
               tiny_model_tensor(r->m, "encoder.layers.%d.mlp.router.layer.weight", i), NULL, p);
        for (int e = 0; e < s->experts; e++)
            sum += p[e] = exp(p[e]);
        memset(out, 0, (size_t)r->d * sizeof *out);
        for (int j = 0; j <= s->top_k && j < s->experts; j++) {
            top[j] = -1;
            for (int e = 0; e < s->experts; e++) {
                int used = 0;
                for (int u = 0; u < j; u++)
                    used |= top[u] == e;
                if (!used && (top[j] < 0 || p[e] > p[top[j]]))
                    top[j] = e;
            }
            if (j < s->top_k) {
                last = p[top[j]] / sum;
                chosen += last;
            } else if (last - p[top[j]] / sum < r->gap)
                r->gap = last - p[top[j]] / sum;
        }
        for (int j = 0; j < s->top_k; j++)
            run_expert(r, x + t * r->d, top[j], p[top[j]] / sum / (s->renormalize ? chosen : 1), w1,
                       w2, out);
        for (int c = 0; c < r->d; c++)
            x[t * r->d + c] += out[c] + (double)bias[c];
    }
    free(p);
    free(out);
}

static void lookup(const struct net *r, const int32_t *ids, double *x) {
    const float *word = tiny_model_tensor(r->m, "embeddings.word_embeddings.weight");
    const float *type = tiny_model_tensor(r->m, "embeddings.token_type_embeddings.weight");
    const float *position = tiny_model_tensor(r->m, "embeddings.position_embeddings.weight");
    int next = r->m->spec.arch == TINY_XLMR ? TINY_PAD + 1 : 0;
    for (int t = 0; t < r->n; t++) {
        /* XLM-R: pad tokens have the pad position and are not counted */
        const int at = r->m->spec.arch == TINY_XLMR && ids[t] == TINY_PAD ? TINY_PAD : next++;
        for (int i = 0; i < r->d; i++)
            x[t * r->d + i] =
                (r->words != NULL ? r->words[t * r->d + i] : (double)word[ids[t] * r->d + i]) +
                (double)type[i] + (position != NULL ? (double)position[at * r->d + i] : 0);
    }
    const int nomic = r->m->spec.arch == TINY_NOMIC;
    layer_norm(r, x,
               tiny_model_tensor(r->m, "%s.weight", nomic ? "emb_ln" : "embeddings.LayerNorm"),
               tiny_model_tensor(r->m, "%s.bias", nomic ? "emb_ln" : "embeddings.LayerNorm"));
}

static double *run(struct net *r, const int32_t *ids) {
    const tiny_spec *s = &r->m->spec;
    const size_t size = (size_t)r->n * (size_t)r->d;
    double *states = zeros(size * (size_t)(s->layers + 1));
    lookup(r, ids, states);
    for (int i = 0; i < s->layers; i++) {
        double *x = states + (size_t)(i + 1) * size;
        memcpy(x, x - size, size * sizeof *x);
        attention(r, i, x);
        layer_norm(r, x, part(r, i, "norm1", "attention.output.LayerNorm", "weight"),
                   part(r, i, "norm1", "attention.output.LayerNorm", "bias"));
        if (s->moe_every > 0 && i % s->moe_every == 1)
            moe_mlp(r, i, x);
        else
            dense_mlp(r, i, x);
        layer_norm(r, x, part(r, i, "norm2", "output.LayerNorm", "weight"),
                   part(r, i, "norm2", "output.LayerNorm", "bias"));
    }
    return states;
}

double *reference_words(const tiny_model *m, const int32_t *ids, size_t n) {
    const float *word = tiny_model_tensor(m, "embeddings.word_embeddings.weight");
    const size_t d = (size_t)m->spec.hidden;
    double *words = zeros(n * d);
    for (size_t i = 0; i < n * d; i++)
        words[i] = (double)word[(size_t)ids[i / d] * d + i % d];
    return words;
}

double *reference_states_from(const tiny_model *m, const int32_t *ids, size_t n,
                              const double *words) {
    struct net r = {m, (int)n, m->spec.hidden, words, 1};
    return run(&r, ids);
}

double *reference_states(const tiny_model *m, const int32_t *ids, size_t n) {
    return reference_states_from(m, ids, n, NULL);
}

double reference_router_gap_from(const tiny_model *m, const int32_t *ids, size_t n,
                                 const double *words) {
    struct net r = {m, (int)n, m->spec.hidden, words, 1};
    free(run(&r, ids));
    return r.gap;
}

double reference_router_gap(const tiny_model *m, const int32_t *ids, size_t n) {
    return reference_router_gap_from(m, ids, n, NULL);
}

/* One pooling mode over rows skip .. n. */
static void pool(const double *x, size_t n, size_t d, size_t skip, const char *mode, double *out) {
    for (size_t i = 0; i < d; i++) {
        double sum = 0, weights = 0, most = -INFINITY;
        for (size_t t = skip; t < n; t++) {
            const double weight = strcmp(mode, "weightedmean") == 0 ? (double)(t + 1) : 1;
            sum += weight * x[t * d + i];
            weights += weight;
            most = fmax(most, x[t * d + i]);
        }
        out[i] = strcmp(mode, "cls") == 0             ? x[skip * d + i]
                 : strcmp(mode, "max") == 0           ? most
                 : strcmp(mode, "lasttoken") == 0     ? x[(n - 1) * d + i]
                 : strcmp(mode, "mean_sqrt_len") == 0 ? sum / sqrt(weights)
                                                      : sum / weights;
    }
}

size_t reference_vector(const tiny_model *m, const int32_t *ids, size_t n, size_t skip, size_t dim,
                        int normalize, double *out) {
    return reference_vector_from(m, ids, n, NULL, skip, dim, normalize, out);
}

size_t reference_vector_from(const tiny_model *m, const int32_t *ids, size_t n, const double *words,
                             size_t skip, size_t dim, int normalize, double *out) {
    const tiny_spec *s = &m->spec;
    const size_t d = (size_t)s->hidden;
    size_t width = s->pooling2 != NULL ? 2 * d : d;
    double *states = reference_states_from(m, ids, n, words),
           *pooled = zeros(width + (size_t)s->dense);
    const double *x = states + (size_t)s->layers * n * d;
    pool(x, n, d, skip, s->pooling, pooled);
    if (s->pooling2 != NULL)
        pool(x, n, d, skip, s->pooling2, pooled + d);
    if (s->dense > 0) {
        double *y = zeros((size_t)s->dense);
        linear(pooled, 1, (int)width, s->dense, tiny_model_tensor(m, "linear.weight"),
               tiny_model_tensor(m, "linear.bias"), y);
        width = (size_t)s->dense;
        for (size_t i = 0; i < width; i++)
            pooled[i] = tanh(y[i]);
        free(y);
    }
    if (dim > 0)
        width = dim;
    double norm = 0;
    for (size_t i = 0; i < width; i++)
        norm += pooled[i] * pooled[i];
    for (size_t i = 0; i < width; i++)
        out[i] = normalize ? pooled[i] / sqrt(norm) : pooled[i];
    free(states);
    free(pooled);
    return width;
}

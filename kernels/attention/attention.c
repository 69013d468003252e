#include "kernels/attention/attention.h"

#include "kernels/gemm/gemm_tile.h"
#include "kernels/isa.h"
#include "kernels/rows.h"

/* A task is a group of heads of a block of neighbouring tokens: short texts belong to the block in
 * which they start, longer ones are cut into their blocks' rows, each of which packs the text's
 * keys and values again (about 3/block of the work). A thread gets TASKS_PER_THREAD tasks or more
 * where there is enough to do; beyond that, heads of a text stay together, since their rows are
 * neighbours in memory. */
enum { BLOCK_MIN = 128, BLOCK_MAX = 256, TASKS_PER_THREAD = 8 };
/* Rows that are scored at once: scores that stay in the second-level cache, below ROWS_MAX. */
enum { ROWS_MAX = 64, SCORE_FLOATS = 32768 };

/* One thread's scratch for texts of up to max_len tokens, in floats. */
struct layout {
    int64_t keys, values, scores, queries, rotated, sums, total;
};

struct job {
    const emb_exec *exec;
    const emb_attention_args *args;
    const emb_gemm_tile *tile;
    const emb_rows *rows;
    struct layout at;
    int64_t block, group, groups; /* tokens of a block, heads of a group, groups */
};

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* Score rows lie 16 floats further apart than needed: lengths are often powers of two, and rows a
 * power of two apart fall on the same few cache sets. */
static int64_t score_stride(int64_t len) {
    return round_up(len, 16) + 16;
}

static struct layout layout_of(const emb_gemm_tile *tile, int64_t max_len, int64_t dim) {
    const int64_t stride = score_stride(max_len) * tile->mr;
    struct layout l = {0};
    l.values = round_up(max_len, tile->nr) * dim;
    l.scores = l.values + max_len * round_up(dim, tile->nr);
    l.queries = l.scores + (stride > SCORE_FLOATS ? round_up(stride, 16) : SCORE_FLOATS);
    l.rotated = l.queries + round_up((ROWS_MAX + tile->mr) * dim, 16);
    l.sums = l.rotated + round_up(tile->nr * dim, 16);
    l.total = l.sums + round_up(ROWS_MAX + tile->mr, 16);
    return l;
}

embed_status emb_attention_scratch_bytes(const emb_isa *isa, int64_t max_len, int32_t head_dim,
                                         size_t *bytes) {
    const int64_t total = layout_of(isa->tile, max_len, head_dim).total;
    return emb_mul((size_t)total, sizeof(float), "attention scratch", bytes);
}

/* One (text, head): its tensors and how many rows to score at once. */
struct head {
    const float *q, *k, *v; /* first token */
    float *out;
    int64_t ld, ldo, len, rows;
};

/* Keys as panels of nr columns, rotated on the way. */
static void pack_keys(const struct job *job, const struct head *h, float *keys, float *rotated) {
    const emb_attention_args *a = job->args;
    const int64_t nr = job->tile->nr, dim = a->head_dim, half = a->rotary_dim / 2;
    for (int64_t j = 0; j < h->len; j += nr) {
        const int64_t n = h->len - j < nr ? h->len - j : nr;
        const float *k = h->k + j * h->ld;
        int64_t ld = h->ld;
        if (a->cos != NULL) {
            job->rows->rotate(rotated, dim, k, ld, n, dim, a->rotary_dim, a->cos + j * half,
                              a->sin + j * half);
            k = rotated;
            ld = dim;
        }
        job->tile->pack_nt(keys + j * dim, k, ld, EMBED_F32, n, dim);
    }
}

/* Values as panels of nr columns by EMB_GEMM_KC keys. */
static void pack_values(const struct job *job, const struct head *h, float *values) {
    const int64_t nr = job->tile->nr, dim = job->args->head_dim;
    for (int64_t k = 0; k < h->len; k += EMB_GEMM_KC) {
        const int64_t kc = h->len - k < EMB_GEMM_KC ? h->len - k : EMB_GEMM_KC;
        for (int64_t j = 0; j < dim; j += nr, values += kc * nr)
            job->tile->pack_nn(values, h->v + k * h->ld + j, h->ld, EMBED_F32,
                               dim - j < nr ? dim - j : nr, kc);
    }
}

/* The next head's rows come from far apart: ask for them while this head's are worked on. */
static void fetch_rows(const struct job *job, const struct head *h, int64_t first, int64_t m) {
    const int64_t dim = job->args->head_dim;
    for (int64_t t = first; t < first + m; t++)
        for (int64_t i = dim; i < 2 * dim; i += EMB_ALIGN / (int64_t)sizeof(float)) {
            __builtin_prefetch(h->q + t * h->ld + i, 0, 2);
            __builtin_prefetch(h->k + t * h->ld + i, 0, 2);
            __builtin_prefetch(h->v + t * h->ld + i, 0, 2);
            __builtin_prefetch(h->out + t * h->ldo + i, 1, 2);
        }
}

/* out[first .. first + m - 1] from the packed keys and values. */
static void score_rows(const struct job *job, const struct head *h, float *scratch, int64_t first,
                       int64_t m) {
    const emb_attention_args *a = job->args;
    const struct layout at = job->at;
    const int64_t nr = job->tile->nr, dim = a->head_dim, lds = score_stride(h->len);
    const int64_t angles = first * (a->rotary_dim / 2);
    float *s = scratch + at.scores, *q = scratch + at.queries, *sums = scratch + at.sums;
    float *out = h->out + first * h->ldo;
    const int rotary = a->cos != NULL;
    job->rows->rotate(q, dim, h->q + first * h->ld, h->ld, m, dim, rotary ? a->rotary_dim : 0,
                      rotary ? a->cos + angles : NULL, rotary ? a->sin + angles : NULL);
    for (int64_t j = 0; j < h->len; j += nr)
        job->tile->multiply(m, h->len - j < nr ? h->len - j : nr, dim, q, dim,
                            scratch + at.keys + j * dim, s + j, lds, 0);
    job->rows->exponentials(s, lds, m, h->len, a->scale, sums);
    const float *values = scratch + at.values;
    for (int64_t k = 0; k < h->len; k += EMB_GEMM_KC) {
        const int64_t kc = h->len - k < EMB_GEMM_KC ? h->len - k : EMB_GEMM_KC;
        for (int64_t j = 0; j < dim; j += nr, values += kc * nr)
            job->tile->multiply(m, dim - j < nr ? dim - j : nr, kc, s + k, lds, values, out + j,
                                h->ldo, k > 0);
    }
    job->rows->divide(out, h->ldo, m, dim, sums);
}

/* Rows first .. end - 1 of a text's head; `more`: the next head follows. */
static void run_head(const struct job *job, int64_t text, int64_t head, int64_t first, int64_t end,
                     int more, float *scratch) {
    const emb_attention_args *a = job->args;
    const int64_t width = (int64_t)a->heads * a->head_dim, token = a->offsets[text];
    const struct layout at = job->at;
    struct head h = {.ld = 3 * width, .ldo = width, .len = a->offsets[text + 1] - token};
    h.q = a->qkv + token * h.ld + head * a->head_dim;
    h.k = h.q + width;
    h.v = h.k + width;
    h.out = a->out + token * width + head * a->head_dim;
    h.rows = SCORE_FLOATS / score_stride(h.len);
    h.rows = (h.rows < ROWS_MAX ? h.rows : ROWS_MAX) / job->tile->mr * job->tile->mr;
    h.rows = h.rows > job->tile->mr ? h.rows : job->tile->mr;
    pack_keys(job, &h, scratch + at.keys, scratch + at.rotated);
    pack_values(job, &h, scratch + at.values);
    for (int64_t i = first; i < end; i += h.rows) {
        const int64_t m = end - i < h.rows ? end - i : h.rows;
        if (more)
            fetch_rows(job, &h, i, m);
        score_rows(job, &h, scratch, i, m);
    }
}

/* First text that ends after `token`. */
static int64_t find_text(const int32_t *offsets, int64_t texts, int64_t token) {
    int64_t lo = 0, hi = texts;
    while (lo < hi) {
        const int64_t mid = (lo + hi) / 2;
        if (offsets[mid + 1] > token)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static void run_task(void *arg, size_t task, int thread) {
    const struct job *job = arg;
    const emb_attention_args *a = job->args;
    const int64_t start = (int64_t)task / job->groups * job->block;
    const int64_t head = (int64_t)task % job->groups * job->group;
    const int64_t heads = head + job->group < a->heads ? head + job->group : a->heads;
    float *scratch = emb_exec_scratch(job->exec, thread);
    for (int64_t i = find_text(a->offsets, a->texts, start);
         i < a->texts && a->offsets[i] < start + job->block; i++) {
        const int64_t len = a->offsets[i + 1] - a->offsets[i];
        int64_t first = start - a->offsets[i], end = first + job->block;
        if (len <= job->block) {
            if (first > 0)
                continue; /* done by the block in which it starts */
            end = len;
        }
        first = first > 0 ? first : 0;
        end = end < len ? end : len;
        for (int64_t h = head; h < heads; h++)
            run_head(job, i, h, first, end, h + 1 < heads, scratch);
    }
}

/* Cuts the work into blocks and groups of heads; returns how many tasks that makes. */
static size_t cut(struct job *job, int64_t tokens, int threads) {
    const int64_t heads = job->args->heads, wanted = (int64_t)threads * TASKS_PER_THREAD;
    job->block = tokens / BLOCK_MAX * heads < wanted ? BLOCK_MIN : BLOCK_MAX;
    const int64_t blocks = (tokens + job->block - 1) / job->block;
    job->group = blocks * heads / wanted;
    job->group = job->group < heads ? job->group : heads;
    job->group = job->group > 1 ? job->group : 1;
    job->groups = (heads + job->group - 1) / job->group;
    return (size_t)(blocks * job->groups);
}

embed_status emb_attention(emb_exec *exec, const emb_attention_args *args) {
    struct job job = {.exec = exec, .args = args, .tile = exec->isa->tile, .rows = exec->isa->rows};
    int64_t max_len = 0;
    if (args->texts == 0)
        return EMBED_OK;
    for (int64_t i = 0; i < args->texts; i++)
        if (args->offsets[i + 1] - args->offsets[i] > max_len)
            max_len = args->offsets[i + 1] - args->offsets[i];
    if (args->heads < 1 || args->head_dim < 1 || args->head_dim > EMB_GEMM_KC ||
        args->rotary_dim > args->head_dim)
        return emb_fail(EMBED_ERR_INTERNAL, "attention: %d heads of %d, %d rotated",
                        (int)args->heads, (int)args->head_dim, (int)args->rotary_dim);
    job.at = layout_of(job.tile, max_len, args->head_dim);
    if (exec->scratch_bytes / sizeof(float) < (size_t)job.at.total)
        return emb_fail(EMBED_ERR_INTERNAL, "attention: scratch of %zu bytes for %lld tokens",
                        exec->scratch_bytes, (long long)max_len);
    const size_t tasks = cut(&job, args->offsets[args->texts], emb_pool_threads(exec->pool));
    emb_pool_run(exec->pool, tasks, run_task, &job);
    return EMBED_OK;
}

#include "ngram/ngram_count.h"

typedef struct array_job {
    const emb_env *env;
    emb_ngram_survivors *to;
    emb_ngram_scan_fn report;
    void *user;
} array_job;

static int32_t report_array(void *user, int32_t length, uint32_t pass, uint64_t done,
                            uint64_t total) {
    const array_job *job = user;
    return job->report != NULL ? job->report(job->user, length, pass, done, total) : 0;
}

static embed_status keep(void *user, uint64_t key, uint64_t count, uint32_t documents) {
    const array_job *job = user;
    emb_ngram_survivors *s = job->to;
    embed_status st;
    (void)documents;
    EMB_TRY(
        emb_grow(job->env, (void **)&s->keys, &s->capacity[0], (size_t)s->n + 1, sizeof *s->keys));
    EMB_TRY(emb_grow(job->env, (void **)&s->counts, &s->capacity[1], (size_t)s->n + 1,
                     sizeof *s->counts));
    s->keys[s->n] = key;
    s->counts[s->n++] = count;
fail:
    return st;
}

embed_status emb_ngram_count_array(const emb_env *env, emb_pool *pool, uint32_t *tokens,
                                   size_t positions, int32_t k, uint64_t min_count,
                                   emb_ngram_scan_fn report, void *user, emb_ngram_survivors *out) {
    embed_status st = EMBED_OK;
    array_job job = {env, NULL, report, user};
    emb_ngram_scan scan = {.env = env,
                           .pool = pool,
                           .positions = positions,
                           .min_count = min_count,
                           .table_bytes = UINT64_MAX / 8,
                           .tokens = {tokens, "tokens", -1, 0},
                           .report = report_array,
                           .emit = keep,
                           .user = &job};
    for (int32_t n = 0; n <= k; n++)
        out[n] = (emb_ngram_survivors){0};
    out[1].at = tokens;
    for (int32_t n = 2; n <= k; n++) {
        uint32_t passes;
        EMB_TRY(emb_new_array(env, positions, sizeof *out[n].at, (void **)&out[n].at));
        job.to = &out[n];
        scan.before = (emb_ngram_stream){out[n - 1].at, "numbers", -1, 0};
        scan.now = (emb_ngram_stream){out[n].at, "numbers", -1, 0};
        uint64_t found;
        EMB_TRY(emb_ngram_scan_run(&scan, n, 1, &found, &passes));
    }
fail:
    return st;
}

void emb_ngram_survivors_clear(emb_ngram_survivors *out, int32_t k, const emb_env *env) {
    for (int32_t n = 2; n <= k; n++) {
        emb_free(env, out[n].keys);
        emb_free(env, out[n].counts);
        emb_free(env, out[n].at);
        out[n] = (emb_ngram_survivors){0};
    }
}

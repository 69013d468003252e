#define _POSIX_C_SOURCE 200809L
#include "model/fgram_job.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "model/fingerprint.h"
#include "model/ngram_binding.h"
#include "ngram/ngram_list.h"
#include "ngram/ngram_npy.h"
#include "ngram/ngram_npy_sink.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define COPIED_WINDOW 4096 /* rows at once where nothing is computed */
#define LEAST_WINDOW 64    /* a job that has not even memory for this many is refused */
#define WINDOW_SECONDS 0.3 /* a window that takes longer is halved, for the sake of reports */

#define PHASE_CHECK "check f-grams"
#define PHASE_ROWS "rows"

struct work {
    const emb_fgram_job *job;
    emb_ngram_list *list;
    emb_fgram_encoder *encoder; /* or */
    emb_ngram_rows_file *from;
    emb_npy_sink *sink;
    emb_ngram_fgram *grams; /* [window] */
    float *rows;            /* [window, hidden] */
    uint64_t done, total;
    size_t hidden, window;
};

static embed_status open_source(struct work *w, const emb_env *env) {
    embed_status st = EMBED_OK;
    const emb_fgram_job *j = w->job;
    if (j->from == NULL)
        return emb_fgram_create(&w->encoder, j->model, j->fgram, j->source, j->threads,
                                j->batch_tokens, &j->place);
    EMB_TRY(emb_ngram_rows_file_open(&w->from, env, j->from, &j->from_params));
    if (emb_ngram_rows_file_rows(w->from) != w->total)
        st = emb_fail(EMBED_ERR_MISMATCH, "%s: %llu rows, but %s has %llu f-grams", j->from,
                      (unsigned long long)emb_ngram_rows_file_rows(w->from), j->list,
                      (unsigned long long)w->total);
    else if ((size_t)emb_ngram_rows_file_width(w->from) != w->hidden)
        st = emb_fail(EMBED_ERR_MISMATCH,
                      "%s: rows of %d numbers, but the hidden width of %s is %zu", j->from,
                      emb_ngram_rows_file_width(w->from), j->model->name, w->hidden);
fail:
    return st;
}

static embed_status report(const struct work *w, const char *phase, uint64_t memory) {
    const emb_fgram_job *j = w->job;
    const embed_job_report r = {
        .phase = phase,
        .unit = "f-grams",
        .done = w->done,
        .total = w->total,
        .memory_bytes = memory,
        .disk_bytes = EMB_NPY_HEADER_BYTES + w->total * w->hidden * sizeof(float),
    };
    if (j->report == NULL || j->report(j->user, &r) == 0)
        return EMBED_OK;
    return emb_fail(EMBED_ERR_CANCELLED,
                    "the report callback stopped the job after %llu of %llu "
                    "f-grams",
                    (unsigned long long)w->done, (unsigned long long)w->total);
}

/* As many n-grams at once as do the encoder good and memory allows. */
static embed_status size_window(struct work *w, uint64_t *memory) {
    const uint64_t fixed =
        emb_ngram_list_bytes(w->list) + (w->encoder != NULL ? emb_fgram_bytes(w->encoder) : 0);
    const uint64_t each = w->hidden * sizeof(float) + sizeof(emb_ngram_fgram) + sizeof(uint32_t);
    const uint64_t least = fixed + LEAST_WINDOW * each;
    if (w->job->memory < least)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_job.memory: expected at least %llu bytes for batches of %d tokens, "
                        "found %llu",
                        (unsigned long long)least, w->job->batch_tokens,
                        (unsigned long long)w->job->memory);
    const uint64_t room = (w->job->memory - fixed) / each;
    w->window = w->encoder != NULL ? emb_fgram_window(w->encoder) : COPIED_WINDOW;
    if (room < w->window)
        w->window = (size_t)room;
    if (w->total < w->window)
        w->window = (size_t)w->total;
    *memory = fixed + w->window * each;
    return EMBED_OK;
}

/* Digest of all that the rows depend on. */
static embed_status identify(const struct work *w, uint8_t identity[16]) {
    embed_status st = EMBED_OK;
    const emb_fgram_job *j = w->job;
    struct {
        uint8_t list[16], from[16];
        char embedding[33], fgram[EMB_FINGERPRINT_CHARS];
        int32_t source;
    } facts;
    emb_ngram_binding binding;
    memset(&facts, 0, sizeof facts);
    emb_ngram_list_digest(w->list, facts.list);
    facts.source = j->from != NULL ? -1 : j->source;
    if (w->from != NULL) {
        emb_ngram_rows_file_digest(w->from, facts.from);
    } else {
        EMB_TRY(emb_ngram_binding_to_check(j->model, &binding));
        memcpy(facts.embedding, binding.embedding, sizeof facts.embedding);
    }
    if (w->encoder != NULL && j->source == EMB_FGRAM_MODEL)
        emb_fingerprint_get(j->fgram, facts.fgram);
    XXH128_hash_t digest = XXH3_128bits(&facts, sizeof facts);
    if (w->encoder != NULL && j->source == EMB_FGRAM_MODEL && j->place.backend != NULL) {
        /* Rows of another kind of device or type are near these, not the same. */
        char on[64] = "";
        (void)snprintf(on, sizeof on, "%.32s dtype %d", j->place.backend->name, j->place.dtype);
        digest = XXH3_128bits_withSeed(on, sizeof on, digest.low64 ^ digest.high64);
    }
    XXH128_canonicalFromHash((XXH128_canonical_t *)identity, digest);
fail:
    return st;
}

/* Whether every n-gram can be computed and will be taken by a table, before hours go by. */
static embed_status check_gram(const struct work *w, const uint64_t *special,
                               const emb_ngram_fgram *g, uint64_t row) {
    embed_status st = EMBED_OK;
    const embed_model *m = w->job->model, *fgram = w->job->fgram;
    const int32_t most = fgram != NULL ? fgram->config.pipeline.max_tokens : EMB_NGRAM_MAX_K;
    uint64_t line;
    int t = 0;
    while (t < g->length && g->ids[t] < (uint64_t)m->weights.word.rows &&
           (special[g->ids[t] / 64] >> g->ids[t] % 64 & 1) == 0)
        t++;
    if (t == g->length && g->length <= most)
        return EMBED_OK;
    EMB_TRY(emb_ngram_list_line(w->list, row, &line));
    if (t == g->length)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: line %llu: %d ids, but the f-gram model %s takes at most %d",
                        w->job->list, (unsigned long long)line, g->length, fgram->name, most);
    if (g->ids[t] >= (uint64_t)m->weights.word.rows)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: line %llu: ids[%d]: expected an id below %lld, the vocabulary of %s, "
                        "found %u",
                        w->job->list, (unsigned long long)line, t, (long long)m->weights.word.rows,
                        m->name, g->ids[t]);
    return emb_fail(EMBED_ERR_FORMAT,
                    "%s: line %llu: ids[%d]: %u is a special token, which takes no part in n-grams",
                    w->job->list, (unsigned long long)line, t, g->ids[t]);
fail:
    return st;
}

static embed_status check_list(struct work *w, const emb_env *env) {
    embed_status st = EMBED_OK;
    emb_ngram_binding binding;
    uint64_t *special = NULL;
    EMB_TRY(emb_ngram_binding_to_check(w->job->model, &binding));
    EMB_TRY(emb_new_array(env, (size_t)w->job->model->weights.word.rows / 64 + 1, sizeof *special,
                          (void **)&special));
    for (int32_t i = 0; i < binding.n_special; i++)
        special[binding.special[i] / 64] |= (uint64_t)1 << binding.special[i] % 64;
    for (uint64_t row = 0; row < w->total;) {
        const size_t n = w->total - row < w->window ? (size_t)(w->total - row) : w->window;
        EMB_TRY(emb_ngram_list_read(w->list, row, n, w->grams));
        for (size_t i = 0; i < n; i++)
            EMB_TRY(check_gram(w, special, &w->grams[i], row + i));
        row += n;
    }
fail:
    emb_free(env, special);
    return st;
}

static embed_status check_finite(const struct work *w, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float *row = w->rows + i * w->hidden;
        float zero = 0; /* any NaN or infinity times 0 is NaN, and stays one */
        for (size_t c = 0; c < w->hidden; c++)
            zero += row[c] * 0;
        for (size_t c = 0; zero != 0 && c < w->hidden; c++)
            if (row[c] * 0 != 0)
                return emb_fail(EMBED_ERR_FORMAT, "row %llu, number %zu of %s: found %g",
                                (unsigned long long)(w->done + i), c,
                                w->from != NULL                     ? w->job->from
                                : w->job->source == EMB_FGRAM_MODEL ? w->job->fgram->name
                                                                    : w->job->model->name,
                                (double)row[c]);
    }
    return EMBED_OK;
}

static embed_status run_window(struct work *w, size_t n) {
    embed_status st = EMBED_OK;
    if (w->from != NULL) {
        EMB_TRY(emb_ngram_rows_file_read(w->from, w->done, n, w->rows));
    } else {
        EMB_TRY(emb_ngram_list_read(w->list, w->done, n, w->grams));
        st = emb_fgram_run(w->encoder, w->grams, n, w->done, w->rows);
        if (st == EMBED_ERR_FORMAT)
            emb_fail_prefix("%s", w->job->list);
        EMB_TRY(st);
    }
    EMB_TRY(check_finite(w, n));
    EMB_TRY(emb_npy_sink_write(w->sink, w->rows, n));
    w->done += n;
fail:
    return st;
}

static embed_status run_all(struct work *w, uint64_t memory) {
    embed_status st = EMBED_OK;
    size_t now = w->window;
    EMB_TRY(report(w, PHASE_ROWS, memory)); /* where a resumed job goes on */
    while (w->done < w->total) {
        const double start = emb_clock_seconds();
        const uint64_t left = w->total - w->done;
        EMB_TRY(run_window(w, left < now ? (size_t)left : now));
        EMB_TRY(report(w, PHASE_ROWS, memory));
        if (emb_clock_seconds() - start > WINDOW_SECONDS && now > 2 * LEAST_WINDOW)
            now /= 2;
    }
    EMB_TRY(emb_npy_sink_finish(w->sink));
fail:
    return st;
}

embed_status emb_fgram_job_run(const emb_env *env, const emb_fgram_job *job) {
    embed_status st = EMBED_OK;
    struct work w = {.job = job, .hidden = (size_t)job->model->config.encoder.hidden};
    uint8_t identity[16];
    uint64_t memory = 0;
    EMB_TRY(emb_ngram_list_open(&w.list, env, job->list));
    w.total = emb_ngram_list_rows(w.list);
    EMB_TRY(open_source(&w, env));
    EMB_TRY(size_window(&w, &memory));
    EMB_TRY(report(&w, PHASE_CHECK, memory));
    EMB_TRY(identify(&w, identity));
    EMB_TRY(emb_new_array(env, w.window, sizeof *w.grams, (void **)&w.grams));
    EMB_TRY(emb_new_array(env, w.window, w.hidden * sizeof(float), (void **)&w.rows));
    EMB_TRY(check_list(&w, env));
    EMB_TRY(emb_npy_sink_open(&w.sink, env, job->output, w.total, (uint32_t)w.hidden, identity,
                              job->resume, &w.done));
    EMB_TRY(run_all(&w, memory));
fail:
    emb_npy_sink_close(w.sink, st == EMBED_ERR_FORMAT);
    emb_free(env, w.rows);
    emb_free(env, w.grams);
    emb_ngram_rows_file_free(w.from);
    emb_fgram_free(w.encoder);
    emb_ngram_list_free(w.list);
    return st;
}

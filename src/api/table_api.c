#include <inttypes.h>
#include <string.h>

#include "api/params.h"
#include "base/hex.h"
#include "model/ngram_binding.h"
#include "ngram/ngram_cache.h"
#include "ngram/ngram_residency.h"
#include "ngram/ngram_service.h"

#define FLAGS (EMBED_TABLE_ALLOW_MISMATCH | EMBED_TABLE_ALLOW_UNSAFE)

static embed_status missing(const char *what) {
    return emb_fail(EMBED_ERR_ARG, "%s: NULL", what);
}

static embed_status read_params(embed_table_params *p, const embed_table_params *params) {
    const embed_status st = emb_params_read(p, sizeof *p, params, "embed_table_params");
    if (st != EMBED_OK)
        return st;
    if (p->flags & ~FLAGS || p->reserved != 0)
        return emb_fail(EMBED_ERR_ABI,
                        "embed_table_params: expected known flags and reserved 0, found flags "
                        "0x%x, reserved %d",
                        (unsigned)p->flags, p->reserved);
    if (p->mode < EMBED_TABLE_AUTO || p->mode > EMBED_TABLE_READ)
        return emb_fail(EMBED_ERR_ARG, "embed_table_params.mode: expected 0 to %d, found %d",
                        EMBED_TABLE_READ, p->mode);
    if (p->io < EMBED_TABLE_IO_AUTO || p->io > EMBED_TABLE_IO_PREAD)
        return emb_fail(EMBED_ERR_ARG, "embed_table_params.io: expected 0 to %d, found %d",
                        EMBED_TABLE_IO_PREAD, p->io);
    return EMBED_OK;
}

embed_status embed_table_open(embed_table **out, const char *path, embed_model *model,
                              const embed_table_params *params) {
    embed_status st = EMBED_OK;
    embed_table_params p;
    emb_env env;
    emb_ngram_binding binding;
    if (out == NULL)
        return missing("out");
    *out = NULL;
    if (path == NULL || path[0] == '\0')
        return emb_fail(EMBED_ERR_ARG, "path: expected a directory, found %s",
                        path == NULL ? "NULL" : "an empty string");
    EMB_TRY(read_params(&p, params));
    EMB_TRY(emb_env_init(&env, p.allocator, NULL, NULL));
    if (model != NULL)
        EMB_TRY(emb_ngram_binding_to_check(model, &binding));
    EMB_TRY(emb_ngram_table_open(out, &env, path, &p, model != NULL ? &binding : NULL));
fail:
    return st;
}

void embed_table_free(embed_table *table) {
    emb_ngram_table_release(table);
}

/* -------------------------------------------------------------------------------------- facts */

static void fill_origin(embed_table_info *info, const emb_ngram_provenance *p) {
    info->corpus = p->corpus;
    info->corpus_date = p->corpus_date;
    info->licence = p->licence;
    info->created = p->created;
    info->created_by = p->created_by;
    info->parent = p->parent;
    info->fgram_model = p->fgram_model;
    info->min_count = p->min_count;
    info->min_documents = p->min_documents;
}

embed_status embed_table_get_info(const embed_table *table, embed_table_info *info) {
    embed_table_info ours = {0};
    if (table == NULL || info == NULL)
        return missing(table == NULL ? "table" : "info");
    const emb_ngram_manifest *m = &table->manifest;
    emb_hex_write(m->table_id, sizeof m->table_id, ours.id);
    ours.combine = m->mode == EMB_NGRAM_ADD ? EMBED_TABLE_ADD : EMBED_TABLE_REPLACE;
    ours.k = m->k;
    ours.width = m->layout.width;
    ours.hidden = m->binding.hidden;
    ours.vocab = m->binding.vocab;
    ours.dtype = m->layout.dtype;
    ours.mode = table->mode;
    ours.io = table->io;
    ours.encrypted = m->encrypted;
    ours.parts = table->n_parts;
    ours.rows = m->rows;
    ours.keys = m->keys;
    ours.row_bytes = m->layout.row_bytes;
    for (size_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].name, "index.bin") == 0)
            ours.index_bytes = m->files[i].bytes;
        else if (strncmp(m->files[i].name, "rows-", 5) == 0)
            ours.rows_bytes += m->files[i].bytes;
    ours.pinned_rows = table->pinned_rows;
    memcpy(ours.rows_by_length, m->length_rows, sizeof ours.rows_by_length);
    memcpy(ours.tokenizer, m->binding.tokenizer, sizeof ours.tokenizer);
    memcpy(ours.embedding, m->binding.embedding, sizeof ours.embedding);
    memcpy(ours.model, m->binding.model, sizeof ours.model);
    ours.path = table->path;
    fill_origin(&ours, &m->provenance);
    return emb_params_write(info, &ours, sizeof ours, "embed_table_info");
}

embed_status embed_table_get_stats(embed_table *table, embed_table_stats *stats) {
    emb_ngram_stats totals;
    embed_table_stats ours = {0};
    if (table == NULL || stats == NULL)
        return missing(table == NULL ? "table" : "stats");
    emb_ngram_table_totals(table, &totals);
    ours.positions = totals.positions;
    memcpy(ours.hits, totals.hits, sizeof ours.hits);
    ours.distinct_rows = totals.distinct_rows;
    ours.cache_hits = totals.cache_hits;
    ours.bytes_read = totals.bytes_read;
    ours.foreign_rows = totals.foreign_rows;
    ours.cache_bytes = emb_ngram_cache_bytes(table->cache);
    ours.fetch_seconds = (double)totals.fetch_ns * 1e-9;
    ours.wait_seconds = (double)totals.wait_ns * 1e-9;
    ours.resident_share = emb_ngram_resident_share(table);
    ours.place = totals.place;
    ours.device_bytes = totals.device_bytes;
    ours.device_hits = totals.device_hits;
    ours.device_wait_seconds = (double)totals.device_wait_ns * 1e-9;
    return emb_params_write(stats, &ours, sizeof ours, "embed_table_stats");
}

/* ------------------------------------------------------------------------------------- lookup */

#define LOOKUP_TOKENS                                                                              \
    ((size_t)16384) /* packed for one walk; a longer text is a walk of its own                     \
                     */

typedef struct walk {
    const embed_table *table;
    int32_t *ids, *offsets;
    uint32_t *rows;
    uint8_t *found;
    int64_t *out_rows;
    int32_t *out_lengths;
} walk;

/* Texts first .. end - 1, `tokens` in all. */
static void walk_texts(walk *w, const embed_ids *texts, size_t first, size_t end, size_t tokens) {
    const int32_t *ids = texts[first].ptr;
    w->offsets[0] = 0;
    for (size_t i = first; i < end; i++) {
        const int32_t at = w->offsets[i - first];
        w->offsets[i - first + 1] = at + (int32_t)texts[i].len;
        if (end - first > 1 && texts[i].len > 0)
            memcpy(w->ids + at, texts[i].ptr, texts[i].len * sizeof *w->ids);
    }
    emb_ngram_index_lookup(&w->table->index, end - first > 1 ? w->ids : ids, w->offsets,
                           end - first, w->rows, w->found);
    for (size_t i = 0; i < tokens; i++) {
        w->out_rows[i] = w->rows[i] == EMB_NGRAM_NO_ROW ? -1 : (int64_t)w->rows[i];
        w->out_lengths[i] = w->found[i];
    }
    w->out_rows += tokens;
    w->out_lengths += tokens;
}

static embed_status check_texts(const embed_ids *texts, size_t n, size_t cap, size_t *longest) {
    size_t total = 0;
    embed_status st = EMBED_OK;
    *longest = 0;
    for (size_t i = 0; i < n; i++) {
        if (texts[i].len > INT32_MAX || (texts[i].ptr == NULL && texts[i].len > 0))
            return emb_fail(EMBED_ERR_ARG, "texts[%zu]: expected up to %d ids, found %zu%s", i,
                            INT32_MAX, texts[i].len, texts[i].ptr == NULL ? " at NULL" : "");
        EMB_TRY(emb_add(total, texts[i].len, "texts", &total));
        *longest = texts[i].len > *longest ? texts[i].len : *longest;
    }
    if (total > cap)
        return emb_fail(EMBED_ERR_CAPACITY, "cap: expected at least %zu positions, found %zu",
                        total, cap);
fail:
    return st;
}

embed_status embed_table_lookup(const embed_table *table, const embed_ids *texts, size_t n,
                                int64_t *rows, int32_t *lengths, size_t cap) {
    embed_status st = EMBED_OK;
    walk w = {.table = table, .out_rows = rows, .out_lengths = lengths};
    size_t longest, room;
    if (table == NULL || (n > 0 && texts == NULL))
        return missing(table == NULL ? "table" : "texts");
    EMB_TRY(check_texts(texts, n, cap, &longest));
    if (cap > 0 && (rows == NULL || lengths == NULL))
        return missing(rows == NULL ? "rows" : "lengths");
    room = longest > LOOKUP_TOKENS ? longest : LOOKUP_TOKENS;
    const emb_env *env = &table->env;
    EMB_TRY(emb_new_array(env, LOOKUP_TOKENS, sizeof *w.ids, (void **)&w.ids));
    EMB_TRY(emb_new_array(env, LOOKUP_TOKENS + 2, sizeof *w.offsets, (void **)&w.offsets));
    EMB_TRY(emb_new_array(env, room, sizeof *w.rows, (void **)&w.rows));
    EMB_TRY(emb_new_array(env, room, sizeof *w.found, (void **)&w.found));
    for (size_t first = 0, end; first < n; first = end) {
        size_t tokens = texts[first].len;
        for (end = first + 1;
             end < n && end - first <= LOOKUP_TOKENS && tokens + texts[end].len <= LOOKUP_TOKENS;
             end++)
            tokens += texts[end].len;
        walk_texts(&w, texts, first, end, tokens);
    }
fail:
    if (table != NULL) {
        emb_free(&table->env, w.ids);
        emb_free(&table->env, w.offsets);
        emb_free(&table->env, w.rows);
        emb_free(&table->env, w.found);
    }
    return st;
}

/* ------------------------------------------------------------------------------------ vectors */

static embed_status check_rows(const embed_table *t, const int64_t *rows, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (rows[i] < -1 || (rows[i] >= 0 && (uint64_t)rows[i] >= t->manifest.rows))
            return emb_fail(EMBED_ERR_ARG,
                            "rows[%zu]: expected -1 or a row below %" PRIu64 ", found %" PRId64, i,
                            t->manifest.rows, rows[i]);
    return EMBED_OK;
}

static void name_ngram(const emb_ngram_row_header *h, embed_ngram *out) {
    *out = (embed_ngram){0};
    if (h == NULL)
        return;
    memcpy(out->ids, h->ids, sizeof out->ids);
    out->length = h->length;
    out->count = h->count;
}

/* One step of a long list. */
typedef struct step {
    uint32_t rows[EMB_NGRAM_FETCH_ROWS];
    const emb_ngram_row_header *headers[EMB_NGRAM_FETCH_ROWS];
} step;

static embed_status fetch_step(emb_ngram_fetcher *f, step *s, const int64_t *rows, size_t n,
                               float *out, embed_ngram *ngrams) {
    for (size_t i = 0; i < n; i++)
        s->rows[i] = rows[i] < 0 ? EMB_NGRAM_NO_ROW : (uint32_t)rows[i];
    const embed_status st = out != NULL
                                ? emb_ngram_fetch_into(f, s->rows, n, out, s->headers, NULL)
                                : emb_ngram_fetch_rows(f, s->rows, n, NULL, s->headers, NULL);
    for (size_t i = 0; i < n && st == EMBED_OK; i++)
        if (ngrams != NULL)
            name_ngram(s->headers[i], &ngrams[i]);
    return st;
}

embed_status embed_table_fetch(embed_table *table, const int64_t *rows, size_t n, float *out,
                               size_t cap, embed_ngram *ngrams) {
    embed_status st = EMBED_OK;
    emb_ngram_fetcher *f = NULL;
    step *s = NULL;
    size_t need;
    if (table == NULL || (n > 0 && rows == NULL))
        return missing(table == NULL ? "table" : "rows");
    const size_t width = (size_t)table->manifest.layout.width;
    EMB_TRY(emb_mul(n, width, "rows", &need));
    if (out != NULL && need > cap)
        return emb_fail(EMBED_ERR_CAPACITY, "cap: expected at least %zu floats, found %zu", need,
                        cap);
    EMB_TRY(check_rows(table, rows, n));
    EMB_TRY(emb_alloc(&table->env, sizeof *s, (void **)&s));
    EMB_TRY(emb_ngram_service_borrow(table->service, &f));
    for (size_t at = 0; at < n && st == EMBED_OK; at += EMB_NGRAM_FETCH_ROWS)
        st = fetch_step(f, s, rows + at,
                        n - at < EMB_NGRAM_FETCH_ROWS ? n - at : EMB_NGRAM_FETCH_ROWS,
                        out != NULL ? out + at * width : NULL, ngrams != NULL ? ngrams + at : NULL);
    emb_ngram_service_return(table->service, f);
fail:
    emb_free(&table->env, s);
    return st;
}

embed_status embed_table_prefetch(embed_table *table, const int64_t *rows, size_t n,
                                  embed_table_ticket **ticket) {
    if (table == NULL || ticket == NULL || (n > 0 && rows == NULL))
        return missing(table == NULL ? "table" : ticket == NULL ? "ticket" : "rows");
    *ticket = NULL;
    const embed_status st = check_rows(table, rows, n);
    return st != EMBED_OK ? st : emb_ngram_service_prefetch(table->service, rows, n, ticket);
}

embed_status embed_table_wait(embed_table_ticket *ticket) {
    return ticket == NULL ? missing("ticket") : emb_ngram_service_wait(ticket);
}

embed_status embed_table_warm(embed_table *table, uint64_t bytes, embed_job_fn report, void *user) {
    return table == NULL ? missing("table") : emb_ngram_warm(table, bytes, report, user);
}

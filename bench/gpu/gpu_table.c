/* The whole model with n-gram rows from a host table of the 100 GB class against the same texts
 * without a table, in turns. */
#define _POSIX_C_SOURCE 200809L
#include "gpu/gpu_encoder.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu/sparse_table.h"
#include "ngram/ngram_format.h"

/* Bigrams of the texts, each once, ascending by their ids; every third one has no row. */
static int by_ids(const void *a, const void *b) {
    return memcmp(a, b, 2 * sizeof(uint32_t));
}

static int is_special(const embed_model *model, int32_t id) {
    for (int32_t i = 0; i < model->n_special; i++)
        if (model->special[i] == id)
            return 1;
    return 0;
}

static emb_ngram_fgram *bigrams(const embed_model *model, const gpu_texts *t, size_t *n) {
    emb_ngram_fgram *all = calloc(t->tokens, sizeof *all);
    size_t found = 0, kept = 0;
    if (all == NULL)
        return NULL;
    for (size_t i = 0; i < t->n; i++)
        for (size_t at = 1; at < t->rows[i].len; at++) {
            const int32_t *ids = t->rows[i].ptr + at - 1;
            if (at % 3 == 0 || is_special(model, ids[0]) || is_special(model, ids[1]))
                continue;
            all[found++] = (emb_ngram_fgram){
                .ids = {(uint32_t)ids[0], (uint32_t)ids[1]}, .count = 100, .length = 2};
        }
    qsort(all, found, sizeof *all, by_ids);
    for (size_t i = 0; i < found; i++)
        if (i == 0 || by_ids(&all[i], &all[kept - 1]) != 0)
            all[kept++] = all[i];
    *n = kept;
    return all;
}

static void remove_table(const char *path) {
    static const char *const names[] = {"index.bin", "rows-000.bin", "manifest.json"};
    char file[1200];
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", path, names[i]);
        (void)unlink(file);
    }
    (void)rmdir(path);
}

/* Rows must have been found: nearly every text has other vectors with them. */
static embed_status check(gpu_bench *b, gpu_call *calls, const gpu_texts *t) {
    const size_t bytes = t->n * t->dim * sizeof *t->out;
    float *without = malloc(bytes);
    size_t same = 0;
    embed_status st = without == NULL ? emb_fail(EMBED_ERR_NOMEM, "vectors") : EMBED_OK;
    if (st == EMBED_OK)
        st = gpu_run_call(b, &calls[0]);
    if (st == EMBED_OK) {
        memcpy(without, t->out, bytes);
        st = gpu_run_call(b, &calls[1]);
    }
    for (size_t i = 0; st == EMBED_OK && i < t->n; i++)
        same += memcmp(without + i * t->dim, t->out + i * t->dim, t->dim * sizeof *without) == 0;
    if (st == EMBED_OK && same > t->n / 4)
        st = emb_fail(EMBED_ERR_INTERNAL, "%zu of %zu texts found no row of the table", same, t->n);
    free(without);
    return st;
}

static embed_status compare(gpu_bench *b, embed_model *model, embed_table *table, gpu_texts *t,
                            const char *shape) {
    static const struct {
        const char *what;
        int32_t place;
    } ways[] = {{"without a table", 0},
                {"rows by copies", EMBED_TABLE_PLACE_COPY},
                {"rows by copies, cached", EMBED_TABLE_PLACE_CACHE}};
    enum { WAYS = sizeof ways / sizeof ways[0] };
    embed_context *ctx[WAYS] = {NULL};
    gpu_call calls[WAYS];
    gpu_work works[WAYS];
    gpu_times times[WAYS];
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < WAYS; i++) {
        embed_context_params p = gpu_context_params(b, EMBED_BF16, b->quick ? 0 : 16384);
        p.table = i > 0 ? table : NULL;
        p.table_place = ways[i].place;
        EMB_TRY(embed_context_create(&ctx[i], model, &p));
        calls[i] = (gpu_call){ctx[i], t};
        works[i] = (gpu_work){gpu_run_call, &calls[i], 1};
    }
    EMB_TRY(check(b, calls, t));
    EMB_TRY(gpu_time(b, works, WAYS, times));
    for (size_t i = 0; i < WAYS; i++) {
        gpu_row row = {.what = ways[i].what,
                       .shape = shape,
                       .dtype = "bf16",
                       .seconds = gpu_median(&times[i]),
                       .flops = gpu_encoder_flops(model, t)};
        if (i > 0) {
            row.against = "without";
            row.ratio = gpu_ratio(&times[i], &times[0], &row.least, &row.most);
        }
        if (i == 1) { /* no row is on the device before: what a first pass over a corpus has */
            row.measure = "x the time";
            row.value = row.ratio;
            row.goal = 1.03;
            row.at_most = 1;
        }
        gpu_tell(b, &row);
    }
fail:
    for (size_t i = 0; i < WAYS; i++)
        embed_context_free(ctx[i]);
    return st;
}

embed_status gpu_section_table(gpu_bench *b) {
    const size_t texts = b->quick ? 6 : 4096;
    const int32_t length = b->quick ? 5 : 128;
    uint64_t rows = 64000000; /* of 1,584 bytes: 101 GB */
    int32_t *lengths = calloc(texts, sizeof *lengths);
    embed_table_params params = EMBED_TABLE_PARAMS_INIT;
    embed_model *model = NULL;
    embed_table *table = NULL;
    emb_ngram_fgram *grams = NULL;
    gpu_texts t = {0};
    size_t n = 0;
    char path[1100], shape[96];
    embed_status st = EMBED_OK;
    (void)snprintf(path, sizeof path, "%s/sparse-table", b->work_dir);
    remove_table(path); /* of a run that was stopped */
    for (size_t i = 0; lengths != NULL && i < texts; i++)
        lengths[i] = length;
    if (lengths == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "lengths");
    EMB_TRY(gpu_model_open(b, &model));
    EMB_TRY(gpu_texts_make(&t, model, lengths, texts, 5));
    grams = bigrams(model, &t, &n);
    if (grams == NULL) {
        st = emb_fail(EMBED_ERR_NOMEM, "n-grams");
        goto fail;
    }
    if (b->quick)
        rows = n; /* none missing */
    EMB_TRY(sparse_table_write(&b->env, model, path, grams, n, rows, EMBED_F16, 0.05));
    EMB_TRY(embed_table_open(&table, path, model, &params));
    (void)snprintf(shape, sizeof shape, "%zu of %llu M rows used", n,
                   (unsigned long long)(rows / 1000000));
    EMB_TRY(compare(b, model, table, &t, shape));
fail:
    embed_table_free(table);
    embed_model_free(model);
    remove_table(path);
    gpu_texts_free(&t);
    free(grams);
    free(lengths);
    return st;
}

#define _DEFAULT_SOURCE
#include "ngram/ngram_builder.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/file.h"
#include "ngram/ngram_list.h"
#include "ngram/ngram_projection.h"
#include "ngram/ngram_rows_file.h"
#include "ngram/ngram_spill.h"
#include "ngram/ngram_table.h"
#include "ngram/ngram_tell.h"
#include "ngram/ngram_writer.h"

#define PIECE ((size_t)8192) /* n-grams checked at once */
#define SAMPLES 512          /* pieces of the vectors that enter the table's id */
#define SAMPLE_BYTES 8192

typedef struct build {
    emb_env env;
    const embed_build_params *params;
    const emb_ngram_binding *binding;
    const char *fgrams, *rows;
    emb_ngram_list *list;
    emb_ngram_rows_file *vectors;
    emb_ngram_projection projection;
    emb_ngram_spill spill;
    uint64_t *special; /* a bit for each id of the vocabulary */
    char *parent;      /* id of the table this one descends from */
    emb_ngram_teller teller;
} build;

/* ------------------------------------------------------------------------------ the source */

static embed_status source_fgrams(void *user, uint64_t first, size_t n, emb_ngram_fgram *out) {
    const build *b = user;
    return emb_ngram_spill_read(&b->spill, first, n, out);
}

static embed_status source_vectors(void *user, uint64_t first, size_t n, float *out) {
    const build *b = user;
    return emb_ngram_rows_file_read(b->vectors, first, n, out);
}

/* "ROWS: row 12 (LIST, line 13): element 7: ..." */
static embed_status explain_row(void *user, uint64_t row) {
    const build *b = user;
    uint64_t line = 0;
    char message[512];
    (void)snprintf(message, sizeof message, "%s", emb_fail_sentence());
    const embed_status st = emb_ngram_list_line(b->list, row, &line);
    if (st != EMBED_OK)
        return st;
    return emb_fail(EMBED_ERR_FORMAT, "%s: row %" PRIu64 " (%s, line %" PRIu64 "): %s", b->rows,
                    row, b->fgrams, line, message);
}

static embed_status explain_same(void *user, uint64_t row, uint64_t other) {
    const build *b = user;
    uint64_t lines[2] = {0, 0};
    embed_status st = emb_ngram_list_line(b->list, row, &lines[0]);
    if (st == EMBED_OK)
        st = emb_ngram_list_line(b->list, other, &lines[1]);
    if (st != EMBED_OK)
        return st;
    return emb_fail(EMBED_ERR_FORMAT,
                    "%s: line %" PRIu64 ": ids: the same n-gram as on line %" PRIu64, b->fgrams,
                    lines[0], lines[1]);
}

/* ------------------------------------------------------------------------------ the list */

static embed_status mark_special(build *b) {
    const emb_ngram_binding *m = b->binding;
    const embed_status st = emb_new_array(&b->env, ((size_t)m->vocab + 63) / 64, sizeof *b->special,
                                          (void **)&b->special);
    for (int32_t i = 0; st == EMBED_OK && i < m->n_special; i++)
        b->special[m->special[i] / 64] |= UINT64_C(1) << (m->special[i] % 64);
    return st;
}

static embed_status check_ids(const build *b, const emb_ngram_fgram *g, uint64_t row) {
    const uint32_t vocab = (uint32_t)b->binding->vocab;
    for (uint32_t i = 0; i < g->length; i++) {
        const uint32_t id = g->ids[i];
        if (id < vocab && (b->special[id / 64] >> (id % 64) & 1) == 0)
            continue;
        uint64_t line = 0;
        const embed_status st = emb_ngram_list_line(b->list, row, &line);
        if (st != EMBED_OK)
            return st;
        if (id >= vocab)
            return emb_fail(EMBED_ERR_FORMAT,
                            "%s: line %" PRIu64
                            ": ids[%u]: expected a token of the model, 0 to %u, "
                            "found %u",
                            b->fgrams, line, i, vocab - 1, id);
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: line %" PRIu64 ": ids[%u]: %u is a special token, which takes no part "
                        "in n-grams",
                        b->fgrams, line, i, id);
    }
    return EMBED_OK;
}

/* Every n-gram checked against the model and put where it can be read again quickly. */
static embed_status spill_list(build *b, const char *output) {
    const uint64_t rows = emb_ngram_list_rows(b->list);
    emb_ngram_fgram *piece = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(mark_special(b));
    if (output != NULL)
        EMB_TRY(emb_ngram_spill_open(&b->spill, &b->env, b->params->job.temp_dir, output));
    EMB_TRY(emb_new_array(&b->env, PIECE, sizeof *piece, (void **)&piece));
    for (uint64_t first = 0; first < rows;) {
        const size_t n = rows - first < PIECE ? (size_t)(rows - first) : PIECE;
        EMB_TRY(emb_ngram_list_read(b->list, first, n, piece));
        for (size_t i = 0; i < n; i++)
            EMB_TRY(check_ids(b, &piece[i], first + i));
        if (output != NULL)
            EMB_TRY(emb_ngram_spill_add(&b->spill, piece, n));
        first += n;
        EMB_TRY(emb_ngram_tell(&b->teller, "check list", "rows", first, rows));
    }
fail:
    emb_free(&b->env, piece);
    return st;
}

/* ------------------------------------------------------------------------------ the vectors */

static embed_status open_vectors(build *b) {
    const int32_t width = b->projection.file != NULL ? b->projection.width : b->binding->hidden;
    const emb_ngram_rows_params raw = {.raw_dtype = EMBED_F32, .raw_width = width};
    emb_ngram_rows_params p = raw;
    char *file = NULL, *name = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_split_name(&b->env, b->rows, &file, &name));
    p.tensor = name;
    EMB_TRY(emb_ngram_rows_file_open(&b->vectors, &b->env, file, &p));
    if (emb_ngram_rows_file_width(b->vectors) != width)
        st = emb_fail(EMBED_ERR_MISMATCH,
                      "%s: rows are %d wide, %s %d; other widths need a matching projection",
                      b->rows, emb_ngram_rows_file_width(b->vectors),
                      b->projection.file != NULL ? "the projection takes"
                                                 : "the model's word embeddings",
                      width);
    else if (emb_ngram_rows_file_rows(b->vectors) != emb_ngram_list_rows(b->list))
        st = emb_fail(EMBED_ERR_MISMATCH, "%s: has %" PRIu64 " rows, %s %" PRIu64 " n-grams",
                      b->rows, emb_ngram_rows_file_rows(b->vectors), b->fgrams,
                      emb_ngram_list_rows(b->list));
fail:
    emb_free(&b->env, file);
    emb_free(&b->env, name);
    return st;
}

/* Pieces from all over the file, or all of a small one: other vectors have another digest. Times
 * are left out, so that copied inputs make the same table. */
static embed_status sample_vectors(const build *b, XXH3_state_t *x) {
    unsigned char *piece = NULL;
    char *file = NULL, *name = NULL;
    int fd = -1;
    uint64_t size;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_split_name(&b->env, b->rows, &file, &name));
    EMB_TRY(emb_file_open(file, &fd, &size));
    EMB_TRY(emb_alloc(&b->env, SAMPLE_BYTES, (void **)&piece));
    const uint64_t step = size / SAMPLES > SAMPLE_BYTES ? size / SAMPLES : SAMPLE_BYTES;
    (void)XXH3_128bits_update(x, &size, sizeof size);
    if (name != NULL)
        (void)XXH3_128bits_update(x, name, strlen(name));
    for (uint64_t at = 0; at < size; at += step) {
        const size_t here = size - at < SAMPLE_BYTES ? (size_t)(size - at) : SAMPLE_BYTES;
        EMB_TRY(emb_file_read_at(fd, file, at, piece, here));
        (void)XXH3_128bits_update(x, piece, here);
    }
fail:
    emb_file_close(fd);
    emb_free(&b->env, piece);
    emb_free(&b->env, file);
    emb_free(&b->env, name);
    return st;
}

static embed_status identify(const build *b, uint8_t identity[16]) {
    XXH3_state_t x;
    XXH128_canonical_t sum;
    uint8_t list[16];
    emb_ngram_list_digest(b->list, list);
    XXH3_128bits_reset(&x);
    (void)XXH3_128bits_update(&x, list, sizeof list);
    const embed_status st = sample_vectors(b, &x);
    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(&x));
    memcpy(identity, sum.digest, 16);
    return st;
}

/* ------------------------------------------------------------------------------ the whole */

embed_status emb_ngram_key_get(const emb_env *env, const char *key_path, embed_key_fn key,
                               void *key_user, uint8_t out[32], int *given) {
    *given = key != NULL || key_path != NULL;
    if (key != NULL)
        return key(key_user, out) == 0 ? EMBED_OK
                                       : emb_fail(EMBED_ERR_ARG, "the key callback refused");
    return key_path != NULL ? emb_ngram_key_read(env, key_path, out) : EMBED_OK;
}

/* The id of the table in directory params->parent, or of the store's current one. */
static embed_status read_parent(build *b) {
    embed_status st = EMBED_OK;
    emb_ngram_manifest m = {0};
    char *path = NULL;
    int exists;
    if (b->params->parent == NULL)
        return EMBED_OK;
    EMB_TRY(emb_file_join(&b->env, b->params->parent, "manifest.json", &path));
    EMB_TRY(emb_file_exists(path, &exists));
    if (!exists) {
        emb_free(&b->env, path);
        EMB_TRY(emb_file_join(&b->env, b->params->parent, "current/manifest.json", &path));
    }
    EMB_TRY(emb_ngram_manifest_read(&m, &b->env, path));
    EMB_TRY(emb_alloc(&b->env, 33, (void **)&b->parent));
    for (int i = 0; i < 16; i++)
        (void)snprintf(b->parent + 2 * i, 3, "%02x", m.table_id[i]);
fail:
    emb_ngram_manifest_clear(&m, &b->env);
    emb_free(&b->env, path);
    return st;
}

static emb_ngram_manifest describe(const build *b) {
    const embed_build_params *p = b->params;
    emb_ngram_manifest m = {.mode = p->combine, .binding = *b->binding};
    m.layout.width = emb_ngram_rows_file_width(b->vectors);
    m.layout.dtype = p->dtype;
    m.projection = b->projection.name;
    m.provenance = (emb_ngram_provenance){
        .corpus = (char *)(uintptr_t)p->corpus,
        .corpus_date = (char *)(uintptr_t)p->corpus_date,
        .licence = (char *)(uintptr_t)p->licence,
        .created = (char *)(uintptr_t)p->created,
        .parent = b->parent,
        .fgram_model = (char *)(uintptr_t)p->fgram_model,
        .min_count = p->min_count > 0 ? p->min_count : -1,
        .min_documents = p->min_documents > 0 ? p->min_documents : -1,
    };
    return m;
}

static embed_status tell(void *user, const embed_job_report *r) {
    return emb_ngram_tell(user, r->phase, r->unit, r->done, r->total);
}

static embed_status run(build *b, const char *output) {
    const embed_build_params *p = b->params;
    char by[48];
    uint8_t key[32];
    int sealed = 0;
    embed_status st = EMBED_OK;
    emb_ngram_source source = {.user = b,
                               .fgrams = source_fgrams,
                               .vectors = source_vectors,
                               .explain_row = explain_row,
                               .explain_same = explain_same};
    if (output != NULL)
        EMB_TRY(emb_ngram_write_ready(&b->env, output, p->job.resume));
    EMB_TRY(emb_ngram_list_open(&b->list, &b->env, b->fgrams));
    if (p->projection != NULL)
        EMB_TRY(
            emb_ngram_projection_read(&b->projection, &b->env, p->projection, b->binding->hidden));
    EMB_TRY(open_vectors(b));
    EMB_TRY(read_parent(b));
    EMB_TRY(emb_ngram_key_get(&b->env, p->key_path, p->key, p->key_user, key, &sealed));
    emb_ngram_manifest m = describe(b);
    (void)snprintf(by, sizeof by, "embed %d.%d.%d", EMBED_VERSION_MAJOR, EMBED_VERSION_MINOR,
                   EMBED_VERSION_PATCH);
    m.provenance.created_by = by;
    source.rows = emb_ngram_list_rows(b->list);
    const emb_ngram_write_params write = {.manifest = &m,
                                          .projection = b->projection.file,
                                          .projection_bytes = b->projection.bytes,
                                          .key = sealed ? key : NULL,
                                          .part_bytes = p->part_bytes,
                                          .memory = p->job.memory,
                                          .load = p->load,
                                          .threads = p->job.threads,
                                          .resume = p->job.resume,
                                          .tell = tell,
                                          .tell_user = &b->teller};
    EMB_TRY(emb_ngram_write_estimate(&write, source.rows, &b->teller.memory_bytes,
                                     &b->teller.disk_bytes));
    b->teller.memory_bytes += emb_ngram_list_bytes(b->list) + b->projection.bytes;
    b->teller.disk_bytes += source.rows * sizeof(emb_ngram_fgram);
    EMB_TRY(emb_ngram_tell(&b->teller, "begin", "rows", 0, source.rows));
    EMB_TRY(spill_list(b, output));
    if (output != NULL) {
        EMB_TRY(identify(b, source.identity));
        EMB_TRY(emb_ngram_write(&b->env, output, &write, &source));
    }
fail:
    explicit_bzero(key, sizeof key);
    return st;
}

embed_status emb_ngram_build(const emb_env *env, const emb_ngram_binding *binding,
                             const char *fgrams, const char *rows, const char *output,
                             const embed_build_params *params) {
    build *b;
    embed_status st = emb_new(env, sizeof *b, (void **)&b);
    if (st != EMBED_OK)
        return st;
    b->env = *env;
    b->params = params;
    b->binding = binding;
    b->fgrams = fgrams;
    b->rows = rows;
    b->spill.fd = -1;
    b->teller.job = &params->job;
    st = run(b, output);
    emb_ngram_spill_close(&b->spill, env);
    emb_ngram_rows_file_free(b->vectors);
    emb_ngram_list_free(b->list);
    emb_ngram_projection_clear(&b->projection, env);
    emb_free(env, b->special);
    emb_free(env, b->parent);
    emb_free(env, b);
    return st;
}

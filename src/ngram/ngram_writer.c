#define _DEFAULT_SOURCE
#include "ngram/ngram_writer.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/durable.h"
#include "io/file.h"
#include "io/json_write.h"
#include "ngram/ngram_index.h"
#include "ngram/ngram_parts.h"
#include "ngram/ngram_table.h"
#include "ngram/ngram_writing.h"

#define HEADER EMB_NGRAM_FILE_HEADER_BYTES
#define PROJECTION "projection.safetensors"

/* ------------------------------------------------------------------------------------ sizes */

typedef struct sizes {
    emb_ngram_layout layout;
    uint64_t rows_per_part, memory, disk;
    double load;
} sizes;

static embed_status size_up(sizes *s, const emb_ngram_write_params *p, uint64_t rows) {
    const emb_ngram_layout *want = &p->manifest->layout;
    const uint64_t part_bytes = p->part_bytes != 0 ? p->part_bytes : EMB_NGRAM_PART_BYTES;
    const uint64_t tag = p->key != NULL ? EMB_NGRAM_TAG_BYTES : 0;
    uint64_t buckets;
    embed_status st = EMBED_OK;
    s->load = p->load > 0 ? p->load : EMB_NGRAM_LOAD;
    EMB_TRY(emb_ngram_layout_init(&s->layout, want->width, want->dtype));
    EMB_TRY(emb_ngram_index_buckets(rows, s->load, &buckets));
    if (rows >= EMB_NGRAM_NO_ROW)
        return emb_fail(EMBED_ERR_ARG, "rows: expected fewer than %u, found %" PRIu64,
                        EMB_NGRAM_NO_ROW, rows);
    const uint64_t block = s->layout.block_bytes + tag;
    if (part_bytes < HEADER + block)
        return emb_fail(EMBED_ERR_ARG, "part size: expected at least %" PRIu64 ", found %" PRIu64,
                        HEADER + block, part_bytes);
    s->rows_per_part = (part_bytes - HEADER) / block * s->layout.rows_per_block;
    const uint64_t parts = (rows + s->rows_per_part - 1) / s->rows_per_part;
    if (parts > EMB_NGRAM_MAX_PARTS)
        return emb_fail(EMBED_ERR_ARG,
                        "part size: %" PRIu64 " bytes make %" PRIu64 " parts, expected at most %d",
                        part_bytes, parts, EMB_NGRAM_MAX_PARTS);
    const uint64_t payload = emb_ngram_rows_bytes(&s->layout, rows);
    s->disk = payload + payload / s->layout.block_bytes * tag + parts * HEADER + HEADER +
              buckets * sizeof(emb_ngram_bucket) + p->projection_bytes;
    const uint64_t index = emb_ngram_index_memory(rows, s->load);
    const uint64_t writing =
        emb_ngram_rows_memory(&s->layout, rows < s->rows_per_part ? rows : s->rows_per_part);
    s->memory = index > writing ? index : writing;
fail:
    return st;
}

embed_status emb_ngram_write_estimate(const emb_ngram_write_params *p, uint64_t rows,
                                      uint64_t *memory, uint64_t *disk) {
    const uint64_t allowed = p->memory != 0 ? p->memory : EMB_NGRAM_WRITE_MEMORY;
    sizes s;
    const embed_status st = size_up(&s, p, rows);
    if (st != EMBED_OK)
        return st;
    *memory = s.memory;
    *disk = s.disk;
    if (s.memory > allowed)
        return emb_fail(EMBED_ERR_ARG,
                        "memory: an index of %" PRIu64 " n-grams and the buffers need %" PRIu64
                        " bytes, allowed are %" PRIu64,
                        rows, s.memory, allowed);
    return EMBED_OK;
}

/* ------------------------------------------------------------------------------------ identity */

static void mix(XXH3_state_t *x, const void *data, size_t bytes) {
    (void)XXH3_128bits_update(x, &bytes, sizeof bytes); /* lengths keep fields apart */
    if (bytes > 0)
        (void)XXH3_128bits_update(x, data, bytes);
}

static void mix_text(XXH3_state_t *x, const char *text) {
    mix(x, text != NULL ? text : "\xff", text != NULL ? strlen(text) : 1);
}

/* A digest of everything that decides the bytes, but not of the date: a run may be resumed on
 * another day. */
static void identify(emb_ngram_writing *w) {
    const emb_ngram_write_params *p = w->params;
    const emb_ngram_manifest *m = p->manifest;
    const emb_ngram_provenance *from = &m->provenance;
    const emb_ngram_binding *b = &m->binding;
    const int64_t numbers[] = {EMB_NGRAM_VERSION,
                               m->mode,
                               m->layout.width,
                               m->layout.dtype,
                               b->hidden,
                               b->vocab,
                               from->min_count,
                               from->min_documents,
                               (int64_t)w->source->rows,
                               (int64_t)w->rows_per_part,
                               p->key != NULL};
    const char *const texts[] = {b->tokenizer,      b->embedding,  b->model,     from->corpus,
                                 from->corpus_date, from->licence, from->parent, from->created_by,
                                 from->fgram_model, m->projection};
    const double load = p->load > 0 ? p->load : EMB_NGRAM_LOAD;
    XXH3_state_t x;
    XXH3_128bits_reset(&x);
    mix(&x, w->source->identity, sizeof w->source->identity);
    mix(&x, numbers, sizeof numbers);
    mix(&x, &load, sizeof load);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        mix_text(&x, texts[i]);
    mix(&x, b->special, (size_t)b->n_special * sizeof *b->special);
    mix(&x, p->projection, p->projection_bytes);
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&x));
    memcpy(w->manifest.table_id, digest.digest, sizeof w->manifest.table_id);
}

/* ------------------------------------------------------------------------------------ steps */

embed_status emb_ngram_writing_tell(emb_ngram_writing *w, const char *phase, uint64_t done,
                                    uint64_t total) {
    if (w->params->tell == NULL)
        return EMBED_OK;
    w->report.phase = phase;
    w->report.unit = strcmp(phase, "write index") == 0 ? "bytes" : "rows";
    w->report.done = done;
    w->report.total = total;
    return w->params->tell(w->params->tell_user, &w->report);
}

static embed_status unlink_in(const emb_ngram_writing *w, const char *name) {
    char *path;
    const embed_status st = emb_file_join(&w->env, w->partial, name, &path);
    if (st != EMBED_OK)
        return st;
    const int gone = unlink(path) == 0 || errno == ENOENT;
    const embed_status done = gone ? EMBED_OK : emb_file_fail(path, "cannot remove");
    emb_free(&w->env, path);
    return done;
}

/* Names that a table has. */
static int is_ours(const char *name) {
    const size_t n = strlen(name);
    return strcmp(name, "index.bin") == 0 || strcmp(name, "manifest.json") == 0 ||
           strcmp(name, PROJECTION) == 0 ||
           (n > 9 && strncmp(name, "rows-", 5) == 0 && strcmp(name + n - 4, ".bin") == 0);
}

/* Files that a journal does not vouch for. */
static embed_status remove_files(const emb_ngram_writing *w) {
    embed_status st = EMBED_OK;
    DIR *d = opendir(w->partial);
    if (d == NULL)
        return emb_file_fail(w->partial, "cannot list");
    for (const struct dirent *e; st == EMBED_OK && (e = readdir(d)) != NULL;)
        if (is_ours(e->d_name))
            st = unlink_in(w, e->d_name);
    (void)closedir(d);
    return st;
}

static embed_status fail_left_over(const emb_env *env, const char *partial) {
    if (emb_ngram_journal_busy(env, partial))
        return emb_fail(EMBED_ERR_IO, "%s: another run is writing this table", partial);
    return emb_fail(EMBED_ERR_IO,
                    "%s: was left by a run that did not end; resume it (--resume), or remove it to "
                    "begin anew",
                    partial);
}

static embed_status fail_exists(const char *path) {
    return emb_fail(
        EMBED_ERR_IO,
        "%s: exists already; tables are never changed: choose another name or remove it", path);
}

/* "<path>.partial", slashes at the end cut off: "table/" names the same directory as "table". */
static embed_status partial_name(const emb_env *env, const char *path, char **output,
                                 char **partial) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    *partial = NULL;
    embed_status st = emb_strdup(env, path, n, output);
    if (st == EMBED_OK)
        st = emb_alloc(env, n + sizeof ".partial", (void **)partial);
    if (st == EMBED_OK)
        (void)snprintf(*partial, n + sizeof ".partial", "%s.partial", *output);
    return st;
}

embed_status emb_ngram_write_ready(const emb_env *env, const char *path, int resume) {
    char *output = NULL, *partial = NULL;
    embed_status st = EMBED_OK;
    int exists = 0;
    EMB_TRY(partial_name(env, path, &output, &partial));
    if (!resume)
        EMB_TRY(emb_file_exists(output, &exists));
    if (exists) {
        st = fail_exists(output);
        goto fail;
    }
    if (!resume)
        EMB_TRY(emb_file_exists(partial, &exists));
    if (exists)
        st = fail_left_over(env, partial);
fail:
    emb_free(env, output);
    emb_free(env, partial);
    return st;
}

/* 1: a table of the same source and params is there already, the work of a run that was killed on
 * its last step. */
static embed_status look_for_output(emb_ngram_writing *w, const char *path, int *done) {
    emb_ngram_manifest there = {0};
    char *manifest = NULL;
    int exists;
    *done = 0;
    embed_status st = emb_file_exists(path, &exists);
    if (st != EMBED_OK || !exists)
        return st;
    if (w->params->resume && emb_file_join(&w->env, path, "manifest.json", &manifest) == EMBED_OK &&
        emb_ngram_manifest_read(&there, &w->env, manifest) == EMBED_OK)
        *done = memcmp(there.table_id, w->manifest.table_id, sizeof there.table_id) == 0;
    emb_ngram_manifest_clear(&there, &w->env);
    emb_free(&w->env, manifest);
    return *done ? EMBED_OK : fail_exists(path);
}

static embed_status begin(emb_ngram_writing *w) {
    const emb_ngram_write_params *p = w->params;
    uint8_t check[32], salt[32] = {0};
    struct stat info;
    embed_status st = EMBED_OK;
    if (mkdir(w->partial, 0755) != 0) {
        if (errno != EEXIST)
            return emb_file_fail(w->partial, "cannot create");
        if (!p->resume)
            return fail_left_over(&w->env, w->partial);
        if (lstat(w->partial, &info) != 0 || !S_ISDIR(info.st_mode)) /* no link: files go there */
            return emb_fail(EMBED_ERR_IO, "%s: expected a directory; remove it", w->partial);
    }
    if (p->key != NULL)
        EMB_TRY(emb_ngram_random(salt, sizeof salt));
    EMB_TRY(emb_ngram_journal_open(&w->journal, &w->env, w->partial, w->manifest.table_id, salt));
    if (w->journal.fresh)
        EMB_TRY(remove_files(w));
    if (p->key != NULL) {
        memcpy(w->manifest.salt, w->journal.salt, sizeof w->manifest.salt);
        EMB_TRY(emb_ngram_cipher_create(&w->cipher, &w->env, p->key, w->manifest.salt, check));
        memcpy(w->manifest.key_check, check, sizeof check);
        w->manifest.encrypted = 1;
    }
fail:
    return st;
}

static embed_status write_projection(emb_ngram_writing *w) {
    const emb_ngram_write_params *p = w->params;
    emb_ngram_sink sink;
    if (p->projection == NULL || emb_ngram_journal_find(&w->journal, PROJECTION) != NULL)
        return EMBED_OK;
    embed_status st = emb_ngram_sink_open(&sink, w, PROJECTION);
    if (st != EMBED_OK)
        return st;
    st = emb_ngram_sink_put(&sink, p->projection, p->projection_bytes);
    if (st == EMBED_OK)
        return emb_ngram_sink_finish(&sink, w);
    emb_ngram_sink_abandon(&sink, w);
    return st;
}

/* The journal's files in the order of the table: index, parts, projection. */
static embed_status list_files(emb_ngram_writing *w) {
    const emb_ngram_journal *j = &w->journal;
    emb_ngram_manifest *m = &w->manifest;
    const emb_ngram_file *f = emb_ngram_journal_find(j, "index.bin");
    char part[32];
    embed_status st = EMBED_OK;
    EMB_TRY(emb_new_array(&w->env, j->n_files + 1, sizeof *m->files, (void **)&m->files));
    for (uint32_t i = 0; f != NULL && m->n_files < j->n_files; i++) {
        m->files[m->n_files++] = *f; /* the name stays the journal's */
        emb_ngram_part_name(i, part);
        f = emb_ngram_journal_find(j, part);
    }
    if ((f = emb_ngram_journal_find(j, PROJECTION)) != NULL)
        m->files[m->n_files++] = *f;
fail:
    return st;
}

static embed_status sync_parent(const emb_env *env, const char *path) {
    char *parent;
    const char *slash = strrchr(path, '/');
    const size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    embed_status st = emb_strdup(env, n > 0 ? path : ".", n > 0 ? n : 1, &parent);
    if (st == EMBED_OK)
        st = emb_durable_sync_dir(parent);
    emb_free(env, parent);
    return st;
}

static embed_status finish(emb_ngram_writing *w, const char *path) {
    char *manifest = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(list_files(w));
    w->manifest.rows = w->source->rows;
    EMB_TRY(unlink_in(w, "manifest.json"));
    EMB_TRY(emb_file_join(&w->env, w->partial, "manifest.json", &manifest));
    EMB_TRY(emb_ngram_manifest_write(&w->manifest, &w->env, manifest));
    EMB_TRY(unlink_in(w, EMB_NGRAM_JOURNAL_NAME));
    EMB_TRY(emb_durable_sync_dir(w->partial));
    if (rename(w->partial, path) != 0) {
        st = emb_file_fail(path, "cannot rename to it");
        goto fail;
    }
    EMB_TRY(sync_parent(&w->env, path));
fail:
    emb_free(&w->env, manifest);
    return st;
}

static embed_status write_all(emb_ngram_writing *w, const char *path) {
    embed_status st = EMBED_OK;
    int done;
    EMB_TRY(emb_ngram_write_estimate(w->params, w->source->rows, &w->report.memory_bytes,
                                     &w->report.disk_bytes));
    EMB_TRY(emb_ngram_writing_tell(w, "begin", 0, w->source->rows));
    EMB_TRY(look_for_output(w, path, &done));
    if (done)
        return EMBED_OK;
    EMB_TRY(begin(w));
    EMB_TRY(emb_ngram_write_index(w));
    EMB_TRY(emb_ngram_write_rows(w));
    EMB_TRY(write_projection(w));
    EMB_TRY(finish(w, path));
fail:
    /* The inputs are wrong, or nothing is finished: there is nothing to go on with. */
    if (w->journal.path != NULL && st != EMBED_OK &&
        (st == EMBED_ERR_FORMAT || w->journal.n_files == 0)) {
        (void)remove_files(w);
        (void)unlink_in(w, EMB_NGRAM_JOURNAL_NAME);
        (void)rmdir(w->partial);
    }
    return st;
}

/* The manifest comes last; that it cannot be written is said first. */
static embed_status check_texts(const emb_env *env, const emb_ngram_provenance *p) {
    const char *const texts[] = {p->corpus, p->corpus_date, p->licence,    p->created,
                                 p->parent, p->created_by,  p->fgram_model};
    emb_json_writer *json = NULL;
    char *text = NULL;
    size_t len;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_json_writer_create(&json, env));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i] != NULL)
            emb_json_add_string(json, emb_json_writer_root(json), "text", texts[i]);
    EMB_TRY(emb_json_writer_text(json, &text, &len));
fail:
    if (st == EMBED_ERR_UTF8)
        emb_fail_prefix("manifest.json: provenance (corpus, licence ...)");
    emb_free(env, text);
    emb_json_writer_free(json);
    return st;
}

embed_status emb_ngram_write(const emb_env *env, const char *path,
                             const emb_ngram_write_params *params, const emb_ngram_source *source) {
    emb_ngram_writing *w = NULL;
    sizes s;
    char *output = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(size_up(&s, params, source->rows));
    EMB_TRY(check_texts(env, &params->manifest->provenance));
    EMB_TRY(emb_new(env, sizeof *w, (void **)&w));
    w->env = *env;
    w->params = params;
    w->source = source;
    w->manifest = *params->manifest;
    w->manifest.files = NULL;
    w->manifest.n_files = 0;
    w->manifest.layout = s.layout;
    w->rows_per_part = s.rows_per_part;
    w->journal.fd = -1;
    identify(w);
    EMB_TRY(partial_name(env, path, &output, &w->partial));
    EMB_TRY(
        emb_pool_create(&w->pool, env, params->threads > 0 ? params->threads : emb_usable_cpus()));
    EMB_TRY(write_all(w, output));
fail:
    if (w != NULL) {
        emb_pool_free(w->pool);
        emb_ngram_cipher_free(w->cipher);
        emb_free(env, w->manifest.files);
        emb_ngram_journal_close(&w->journal, env);
        emb_free(env, w->partial);
    }
    emb_free(env, w);
    emb_free(env, output);
    return st;
}

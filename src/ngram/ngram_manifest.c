#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hex.h"
#include "io/file.h"
#include "io/json.h"
#include "io/json_write.h"

#define MAX_MANIFEST_BYTES ((size_t)64 << 20) /* special ids of any vocabulary fit */
#define CHECKSUM EMB_NGRAM_CHECKSUM_KEY
#define DIGITS 16
#define MAX_FILES 1002 /* index, 1000 parts, projection */

static const char *const mode_names[] = {"replace", "add"};
static const struct {
    const char *name;
    int32_t dtype;
} dtypes[] = {{"f32", EMBED_F32}, {"f16", EMBED_F16}, {"bf16", EMBED_BF16}, {"int8", EMBED_I8}};

const char *emb_ngram_dtype_name(int32_t dtype) {
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    return "?";
}

void emb_ngram_manifest_clear(emb_ngram_manifest *m, const emb_env *env) {
    emb_ngram_provenance *p = &m->provenance;
    char *const texts[] = {p->corpus,     p->corpus_date, p->licence,    p->created,
                           p->created_by, p->parent,      p->fgram_model};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        emb_free(env, texts[i]);
    for (size_t i = 0; i < m->n_files; i++)
        emb_free(env, m->files[i].name);
    emb_free(env, m->files);
    emb_free(env, m->projection);
    emb_free(env, m->binding.special);
    *m = (emb_ngram_manifest){0};
}

/* ------------------------------------------------------------------------------------ reading */

typedef struct reader {
    const emb_json_doc *doc;
    const emb_env *env;
    emb_ngram_manifest *m;
} reader;

static embed_status read_hex(const reader *r, const emb_json *object, const char *key, uint8_t *out,
                             size_t bytes) {
    const char *text;
    size_t len;
    const embed_status st = emb_json_need_string(r->doc, object, key, &text, &len);
    if (st != EMBED_OK)
        return st;
    if (len != 2 * bytes || !emb_hex_read(text, bytes, out))
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, object, key, "expected %zu hex digits",
                             2 * bytes);
    return EMBED_OK;
}

/* A string of exactly `digits` characters into out[digits + 1]. */
static embed_status read_digest(const reader *r, const emb_json *object, const char *key,
                                size_t digits, char *out) {
    const char *text;
    size_t len;
    const embed_status st = emb_json_need_string(r->doc, object, key, &text, &len);
    if (st != EMBED_OK)
        return st;
    if (len != digits || strspn(text, "0123456789abcdef") != digits)
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, object, key, "expected %zu hex digits",
                             digits);
    memcpy(out, text, digits + 1);
    return EMBED_OK;
}

static embed_status read_count(const reader *r, const emb_json *object, const char *key,
                               uint64_t greatest, uint64_t *out) {
    const emb_json *value;
    const embed_status st = emb_json_need(r->doc, object, key, EMB_JSON_NUMBER, &value);
    if (st != EMBED_OK)
        return st;
    const int64_t n = emb_json_is_integer(value) ? emb_json_integer(value) : -1;
    if (n < 0 || (uint64_t)n > greatest)
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, object, key,
                             "expected an integer from 0 to %" PRIu64, greatest);
    *out = (uint64_t)n;
    return EMBED_OK;
}

static embed_status copy_text(const reader *r, const emb_json *object, const char *key,
                              char **out) {
    const char *text = NULL;
    size_t len = 0;
    const embed_status st = emb_json_get_string(r->doc, object, key, &text, &len);
    return st != EMBED_OK || text == NULL ? st : emb_strdup(r->env, text, len, out);
}

static embed_status read_layout(const reader *r, const emb_json *root) {
    emb_ngram_layout *l = &r->m->layout;
    const char *name;
    size_t len;
    uint64_t sizes[3] = {0, 0, 0};
    embed_status st = EMBED_OK;
    EMB_TRY(emb_json_need_int(r->doc, root, "width", 1, 1 << 16, &l->width));
    EMB_TRY(emb_json_need_string(r->doc, root, "dtype", &name, &len));
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(name, dtypes[i].name) == 0)
            l->dtype = dtypes[i].dtype;
    if (l->dtype == 0)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, r->doc, root, "dtype",
                             "expected f32, f16, bf16 or int8");
    EMB_TRY(read_count(r, root, "row_bytes", UINT32_MAX, &sizes[0]));
    EMB_TRY(read_count(r, root, "rows_per_block", UINT32_MAX, &sizes[1]));
    EMB_TRY(read_count(r, root, "block_bytes", UINT32_MAX, &sizes[2]));
    l->row_bytes = (uint32_t)sizes[0];
    l->rows_per_block = (uint32_t)sizes[1];
    l->block_bytes = (uint32_t)sizes[2];
    EMB_TRY(emb_ngram_layout_check(l, emb_json_name(r->doc)));
fail:
    return st;
}

static embed_status read_special(const reader *r, const emb_json *object) {
    emb_ngram_binding *b = &r->m->binding;
    const emb_json *list, *x;
    embed_status st = EMBED_OK;
    int64_t before = -1;
    EMB_TRY(emb_json_need(r->doc, object, "special_ids", EMB_JSON_ARRAY, &list));
    if (emb_json_count(list) > (size_t)b->vocab)
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, object, "special_ids",
                             "expected at most %d ids", b->vocab);
    EMB_TRY(
        emb_new_array(r->env, emb_json_count(list) + 1, sizeof *b->special, (void **)&b->special));
    for (emb_json_iter it = emb_json_iterate(list); (x = emb_json_next(&it, NULL)) != NULL;) {
        const int64_t id = emb_json_is_integer(x) ? emb_json_integer(x) : -1;
        if (id <= before || id >= b->vocab)
            return emb_json_fail(EMBED_ERR_FORMAT, r->doc, object, "special_ids",
                                 "expected ascending ids below %d", b->vocab);
        b->special[b->n_special++] = (int32_t)id;
        before = id;
    }
fail:
    return st;
}

static embed_status read_binding(const reader *r, const emb_json *root) {
    emb_ngram_binding *b = &r->m->binding;
    const emb_json *object;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_json_need(r->doc, root, "binding", EMB_JSON_OBJECT, &object));
    EMB_TRY(emb_json_need_int(r->doc, object, "hidden", 1, 1 << 16, &b->hidden));
    EMB_TRY(emb_json_need_int(r->doc, object, "vocab", 1, INT32_MAX, &b->vocab));
    EMB_TRY(read_digest(r, object, "tokenizer", 32, b->tokenizer));
    EMB_TRY(read_digest(r, object, "embedding", 32, b->embedding));
    EMB_TRY(read_digest(r, object, "model", 32, b->model));
    const char *rule;
    EMB_TRY(emb_json_need_string(r->doc, object, "special_rule", &rule, NULL));
    if (strcmp(rule, EMB_NGRAM_SPECIAL_RULE) != 0)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, r->doc, object, "special_rule",
                             "expected \"" EMB_NGRAM_SPECIAL_RULE "\"");
    EMB_TRY(read_special(r, object));
fail:
    return st;
}

static embed_status read_encryption(const reader *r, const emb_json *root) {
    const emb_json *object = NULL;
    const char *cipher;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_json_get(r->doc, root, "encryption", EMB_JSON_OBJECT, &object));
    if (object == NULL)
        return EMBED_OK;
    EMB_TRY(emb_json_need_string(r->doc, object, "cipher", &cipher, NULL));
    if (strcmp(cipher, "AES-256-GCM") != 0)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, r->doc, object, "cipher",
                             "expected \"AES-256-GCM\"");
    EMB_TRY(read_hex(r, object, "salt", r->m->salt, sizeof r->m->salt));
    EMB_TRY(read_hex(r, object, "key_check", r->m->key_check, sizeof r->m->key_check));
    r->m->encrypted = 1;
fail:
    return st;
}

static embed_status read_provenance(const reader *r, const emb_json *root) {
    emb_ngram_provenance *p = &r->m->provenance;
    const emb_json *object = NULL, *value;
    embed_status st = EMBED_OK;
    p->min_count = p->min_documents = -1;
    EMB_TRY(emb_json_get(r->doc, root, "provenance", EMB_JSON_OBJECT, &object));
    if (object == NULL)
        return EMBED_OK;
    EMB_TRY(copy_text(r, object, "corpus", &p->corpus));
    EMB_TRY(copy_text(r, object, "corpus_date", &p->corpus_date));
    EMB_TRY(copy_text(r, object, "licence", &p->licence));
    EMB_TRY(copy_text(r, object, "created", &p->created));
    EMB_TRY(copy_text(r, object, "created_by", &p->created_by));
    EMB_TRY(copy_text(r, object, "parent", &p->parent));
    EMB_TRY(copy_text(r, object, "fgram_model", &p->fgram_model));
    EMB_TRY(emb_json_find(r->doc, object, "min_count", &value));
    if (emb_json_is_integer(value))
        p->min_count = emb_json_integer(value);
    EMB_TRY(emb_json_find(r->doc, object, "min_documents", &value));
    if (emb_json_is_integer(value))
        p->min_documents = emb_json_integer(value);
fail:
    return st;
}

static embed_status read_files(const reader *r, const emb_json *root) {
    emb_ngram_manifest *m = r->m;
    const emb_json *list, *x;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_json_need(r->doc, root, "files", EMB_JSON_ARRAY, &list));
    if (emb_json_count(list) > MAX_FILES)
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, root, "files", "expected at most %d files",
                             MAX_FILES);
    EMB_TRY(emb_new_array(r->env, emb_json_count(list) + 1, sizeof *m->files, (void **)&m->files));
    for (emb_json_iter it = emb_json_iterate(list); (x = emb_json_next(&it, NULL)) != NULL;) {
        emb_ngram_file *f = &m->files[m->n_files++];
        const char *name;
        size_t len;
        EMB_TRY(emb_json_need_string(r->doc, x, "name", &name, &len));
        if (len == 0 || strchr(name, '/') != NULL || name[0] == '.')
            return emb_json_fail(EMBED_ERR_FORMAT, r->doc, x, "name", "expected a plain file name");
        EMB_TRY(emb_strdup(r->env, name, len, &f->name));
        EMB_TRY(read_count(r, x, "bytes", INT64_MAX, &f->bytes));
        EMB_TRY(read_digest(r, x, "sha256", 64, f->sha256));
    }
fail:
    return st;
}

static embed_status read_lengths(const reader *r, const emb_json *root) {
    const emb_json *list, *x;
    uint64_t sum = 0;
    size_t n = 0;
    const embed_status st = emb_json_need(r->doc, root, "rows_by_length", EMB_JSON_ARRAY, &list);
    if (st != EMBED_OK)
        return st;
    if (emb_json_count(list) != (size_t)r->m->k + 1)
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, root, "rows_by_length",
                             "expected %d numbers", r->m->k + 1);
    for (emb_json_iter it = emb_json_iterate(list); (x = emb_json_next(&it, NULL)) != NULL; n++) {
        const int64_t rows = emb_json_is_integer(x) ? emb_json_integer(x) : -1;
        if (rows < 0 || (uint64_t)rows > r->m->rows)
            break;
        sum += r->m->length_rows[n] = (uint64_t)rows;
    }
    if (x != NULL || sum != r->m->rows)
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, root, "rows_by_length",
                             "expected numbers that add up to rows, %" PRIu64, r->m->rows);
    return EMBED_OK;
}

static embed_status read_head(const reader *r, const emb_json *root) {
    emb_ngram_manifest *m = r->m;
    const char *text;
    int32_t version;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_json_need_string(r->doc, root, "format", &text, NULL));
    if (strcmp(text, EMB_NGRAM_FORMAT_NAME) != 0)
        return emb_json_fail(EMBED_ERR_FORMAT, r->doc, root, "format",
                             "expected \"" EMB_NGRAM_FORMAT_NAME "\"");
    EMB_TRY(emb_json_need_int(r->doc, root, "version", 0, INT32_MAX, &version));
    if (version != EMB_NGRAM_VERSION)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, r->doc, root, "version",
                             "expected %d (made by a %s version of embed; build the table again)",
                             EMB_NGRAM_VERSION, version > EMB_NGRAM_VERSION ? "newer" : "older");
    EMB_TRY(read_hex(r, root, "table_id", m->table_id, sizeof m->table_id));
    EMB_TRY(emb_json_need_string(r->doc, root, "mode", &text, NULL));
    m->mode = strcmp(text, mode_names[EMB_NGRAM_ADD]) == 0 ? EMB_NGRAM_ADD : EMB_NGRAM_REPLACE;
    if (strcmp(text, mode_names[m->mode]) != 0)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, r->doc, root, "mode",
                             "expected \"replace\" or \"add\"");
    EMB_TRY(emb_json_need_int(r->doc, root, "k", 2, EMB_NGRAM_MAX_K, &m->k));
    EMB_TRY(read_count(r, root, "rows", EMB_NGRAM_NO_ROW - 1, &m->rows));
    EMB_TRY(read_count(r, root, "keys", INT64_MAX, &m->keys));
    EMB_TRY(read_count(r, root, "buckets", INT64_MAX / 64, &m->n_buckets));
    EMB_TRY(read_count(r, root, "hash_seed", INT64_MAX, &m->seed));
    EMB_TRY(copy_text(r, root, "projection", &m->projection));
    EMB_TRY(read_lengths(r, root));
fail:
    return st;
}

/* ----------------------------------------------------------------------------------- checksum */

char *emb_ngram_manifest_digits(char *text, size_t len) {
    static const char key[] = "\"" CHECKSUM "\"";
    const size_t n = sizeof key - 1;
    for (size_t at = len; at-- > 0;) { /* it is the last key */
        if (len - at < n || memcmp(text + at, key, n) != 0)
            continue;
        size_t i = at + n;
        while (i < len && (text[i] == ' ' || text[i] == ':'))
            i++;
        return len - i > DIGITS + 1 && text[i] == '"' && text[i + DIGITS + 1] == '"' ? text + i + 1
                                                                                     : NULL;
    }
    return NULL;
}

uint64_t emb_ngram_manifest_sum(const char *text, size_t len) {
    return XXH3_64bits(text, len);
}

static int is_intact(char *text, size_t len) {
    char found[DIGITS + 1] = "", expected[DIGITS + 1];
    char *digits = emb_ngram_manifest_digits(text, len);
    if (digits == NULL)
        return 0;
    memcpy(found, digits, DIGITS);
    memset(digits, '0', DIGITS);
    (void)snprintf(expected, sizeof expected, "%016" PRIx64, emb_ngram_manifest_sum(text, len));
    return memcmp(found, expected, DIGITS) == 0;
}

embed_status emb_ngram_manifest_intact(const emb_ngram_manifest *m, const char *path) {
    if (!m->intact)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s/manifest.json: fails its checksum: it was changed since it was written",
                        path);
    return EMBED_OK;
}

embed_status emb_ngram_manifest_read(emb_ngram_manifest *m, const emb_env *env, const char *path) {
    embed_status st = EMBED_OK;
    emb_json_doc *doc = NULL;
    char *text = NULL;
    size_t len;
    *m = (emb_ngram_manifest){0};
    EMB_TRY(emb_file_read(path, env, MAX_MANIFEST_BYTES, 1, &text, &len));
    EMB_TRY(emb_json_parse(&doc, env, path, text, len));
    m->intact = is_intact(text, len);
    const reader r = {doc, env, m};
    const emb_json *root = emb_json_root(doc);
    EMB_TRY(read_head(&r, root));
    EMB_TRY(read_layout(&r, root));
    EMB_TRY(read_binding(&r, root));
    EMB_TRY(read_encryption(&r, root));
    EMB_TRY(read_provenance(&r, root));
    EMB_TRY(read_files(&r, root));
    emb_json_free(doc);
    emb_free(env, text);
    return EMBED_OK;
fail:
    emb_json_free(doc);
    emb_free(env, text);
    emb_ngram_manifest_clear(m, env);
    return st;
}

/* ------------------------------------------------------------------------------------ binding */

embed_status emb_ngram_width_check(const emb_ngram_manifest *m, const emb_ngram_binding *model,
                                   const char *path) {
    if (m->projection == NULL && m->layout.width != model->hidden)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: rows are %d wide, the model's word embeddings %d; expected equal "
                        "widths or a projection in the manifest",
                        path, m->layout.width, model->hidden);
    return EMBED_OK;
}

embed_status emb_ngram_binding_check(const emb_ngram_manifest *m, const emb_ngram_binding *model,
                                     const char *path) {
    const emb_ngram_binding *b = &m->binding;
    const struct {
        const char *what, *table, *model;
    } prints[] = {
        {"tokenizer", b->tokenizer, model->tokenizer},
        {"word embedding matrix", b->embedding, model->embedding},
    };
    const embed_status st = emb_ngram_width_check(m, model, path);
    if (st != EMBED_OK)
        return st;
    if (b->hidden != model->hidden || b->vocab != model->vocab)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: table is for a word embedding matrix [%d, %d], the model's is "
                        "[%d, %d]",
                        path, b->vocab, b->hidden, model->vocab, model->hidden);
    for (size_t i = 0; i < sizeof prints / sizeof prints[0]; i++)
        if (strcmp(prints[i].table, prints[i].model) != 0)
            return emb_fail(EMBED_ERR_MISMATCH, "%s: table is for the %s %s, the model has %s",
                            path, prints[i].what, prints[i].table, prints[i].model);
    if (b->n_special != model->n_special ||
        memcmp(b->special, model->special, (size_t)b->n_special * sizeof *b->special) != 0)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: special_ids: table has %d, the model %d, or they differ", path,
                        b->n_special, model->n_special);
    return EMBED_OK;
}

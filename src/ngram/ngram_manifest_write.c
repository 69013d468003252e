#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/durable.h"
#include "base/hex.h"
#include "io/json_write.h"
#include "ngram/ngram_manifest.h"

static void write_head(const emb_ngram_manifest *m, emb_json_writer *w, emb_json_node *root) {
    char hex[65];
    emb_json_add_string(w, root, "format", EMB_NGRAM_FORMAT_NAME);
    emb_json_add_int(w, root, "version", EMB_NGRAM_VERSION);
    emb_hex_write(m->table_id, sizeof m->table_id, hex);
    emb_json_add_string(w, root, "table_id", hex);
    emb_json_add_string(w, root, "mode", m->mode == EMB_NGRAM_ADD ? "add" : "replace");
    emb_json_add_int(w, root, "k", m->k);
    emb_json_add_uint(w, root, "rows", m->rows);
    emb_json_add_int(w, root, "width", m->layout.width);
    emb_json_add_string(w, root, "dtype", emb_ngram_dtype_name(m->layout.dtype));
    emb_json_add_uint(w, root, "row_bytes", m->layout.row_bytes);
    emb_json_add_uint(w, root, "rows_per_block", m->layout.rows_per_block);
    emb_json_add_uint(w, root, "block_bytes", m->layout.block_bytes);
    emb_json_add_uint(w, root, "keys", m->keys);
    emb_json_add_uint(w, root, "buckets", m->n_buckets);
    emb_json_add_uint(w, root, "hash_seed", m->seed);
    if (m->projection != NULL)
        emb_json_add_string(w, root, "projection", m->projection);
    emb_json_node *lengths = emb_json_add_array(w, root, "rows_by_length");
    for (int32_t n = 0; n <= m->k; n++)
        emb_json_append_int(w, lengths, (int64_t)m->length_rows[n]);
}

static void write_binding(const emb_ngram_binding *b, emb_json_writer *w, emb_json_node *root) {
    emb_json_node *object = emb_json_add_object(w, root, "binding");
    emb_json_add_int(w, object, "hidden", b->hidden);
    emb_json_add_int(w, object, "vocab", b->vocab);
    emb_json_add_string(w, object, "tokenizer", b->tokenizer);
    emb_json_add_string(w, object, "embedding", b->embedding);
    emb_json_add_string(w, object, "model", b->model);
    emb_json_add_string(w, object, "special_rule", EMB_NGRAM_SPECIAL_RULE);
    emb_json_node *ids = emb_json_add_array(w, object, "special_ids");
    for (int32_t i = 0; i < b->n_special; i++)
        emb_json_append_int(w, ids, b->special[i]);
}

static void write_rest(const emb_ngram_manifest *m, emb_json_writer *w, emb_json_node *root) {
    const emb_ngram_provenance *p = &m->provenance;
    char hex[65];
    if (m->encrypted) {
        emb_json_node *object = emb_json_add_object(w, root, "encryption");
        emb_json_add_string(w, object, "cipher", "AES-256-GCM");
        emb_hex_write(m->salt, sizeof m->salt, hex);
        emb_json_add_string(w, object, "salt", hex);
        emb_hex_write(m->key_check, sizeof m->key_check, hex);
        emb_json_add_string(w, object, "key_check", hex);
    }
    emb_json_node *from = emb_json_add_object(w, root, "provenance");
    emb_json_add_string(w, from, "corpus", p->corpus);
    emb_json_add_string(w, from, "corpus_date", p->corpus_date);
    emb_json_add_string(w, from, "licence", p->licence);
    emb_json_add_string(w, from, "created", p->created);
    emb_json_add_string(w, from, "created_by", p->created_by);
    emb_json_add_string(w, from, "parent", p->parent);
    emb_json_add_string(w, from, "fgram_model", p->fgram_model);
    emb_json_add_int(w, from, "min_count", p->min_count);
    emb_json_add_int(w, from, "min_documents", p->min_documents);
    emb_json_node *files = emb_json_add_array(w, root, "files");
    for (size_t i = 0; i < m->n_files; i++) {
        emb_json_node *file = emb_json_append_object(w, files);
        emb_json_add_string(w, file, "name", m->files[i].name);
        emb_json_add_uint(w, file, "bytes", m->files[i].bytes);
        emb_json_add_string(w, file, "sha256", m->files[i].sha256);
    }
}

embed_status emb_ngram_manifest_write(const emb_ngram_manifest *m, const emb_env *env,
                                      const char *path) {
    embed_status st = EMBED_OK;
    emb_json_writer *w = NULL;
    char *text = NULL;
    size_t len = 0;
    EMB_TRY(emb_json_writer_create(&w, env));
    emb_json_node *root = emb_json_writer_root(w);
    write_head(m, w, root);
    write_binding(&m->binding, w, root);
    write_rest(m, w, root);
    emb_json_add_string(w, root, EMB_NGRAM_CHECKSUM_KEY, "0000000000000000");
    EMB_TRY(emb_json_writer_text(w, &text, &len));
    char *digits = emb_ngram_manifest_digits(text, len), sum[17];
    if (digits == NULL) {
        st = emb_fail(EMBED_ERR_INTERNAL, "%s: no place for the checksum", path);
        goto fail;
    }
    (void)snprintf(sum, sizeof sum, "%016" PRIx64, emb_ngram_manifest_sum(text, len));
    memcpy(digits, sum, 16);
    EMB_TRY(emb_durable_write(path, text, len));
fail:
    emb_free(env, text);
    emb_json_writer_free(w);
    return st;
}

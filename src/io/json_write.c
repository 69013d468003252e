#include "io/json_write.h"

#include <string.h>

#include "third_party/yyjson/yyjson_writer_static.h"

struct emb_json_writer {
    emb_env env;
    yyjson_alc alc;
    yyjson_mut_doc *doc;
    int failed; /* a value could not be made or added */
};

static void *yy_malloc(void *ctx, size_t size) {
    void *block;
    return emb_alloc(ctx, size, &block) == EMBED_OK ? block : NULL;
}

static void *yy_realloc(void *ctx, void *ptr, size_t old_size, size_t size) {
    (void)old_size;
    return emb_realloc(ctx, size, &ptr) == EMBED_OK ? ptr : NULL;
}

static void yy_free(void *ctx, void *ptr) {
    emb_free(ctx, ptr);
}

embed_status emb_json_writer_create(emb_json_writer **out, const emb_env *env) {
    emb_json_writer *w;
    *out = NULL;
    const embed_status st = emb_new(env, sizeof *w, (void **)&w);
    if (st != EMBED_OK)
        return st;
    w->env = *env;
    w->alc = (yyjson_alc){yy_malloc, yy_realloc, yy_free, &w->env};
    w->doc = yyjson_mut_doc_new(&w->alc);
    if (w->doc != NULL)
        yyjson_mut_doc_set_root(w->doc, yyjson_mut_obj(w->doc));
    if (w->doc == NULL || yyjson_mut_doc_get_root(w->doc) == NULL) {
        emb_json_writer_free(w);
        return emb_fail(EMBED_ERR_NOMEM, "out of memory for JSON");
    }
    *out = w;
    return EMBED_OK;
}

void emb_json_writer_free(emb_json_writer *w) {
    if (w == NULL)
        return;
    const emb_env env = w->env;
    yyjson_mut_doc_free(w->doc);
    emb_free(&env, w);
}

emb_json_node *emb_json_writer_root(emb_json_writer *w) {
    return yyjson_mut_doc_get_root(w->doc);
}

static emb_json_node *add(emb_json_writer *w, emb_json_node *object, const char *key,
                          yyjson_mut_val *value) {
    if (!yyjson_mut_obj_add(object, yyjson_mut_strcpy(w->doc, key), value)) {
        w->failed = 1;
        return NULL;
    }
    return value;
}

static emb_json_node *append(emb_json_writer *w, emb_json_node *array, yyjson_mut_val *value) {
    if (!yyjson_mut_arr_append(array, value)) {
        w->failed = 1;
        return NULL;
    }
    return value;
}

void emb_json_add_string(emb_json_writer *w, emb_json_node *object, const char *key,
                         const char *value) {
    add(w, object, key, value != NULL ? yyjson_mut_strcpy(w->doc, value) : yyjson_mut_null(w->doc));
}

void emb_json_add_int(emb_json_writer *w, emb_json_node *object, const char *key, int64_t value) {
    add(w, object, key, yyjson_mut_sint(w->doc, value));
}

void emb_json_add_uint(emb_json_writer *w, emb_json_node *object, const char *key, uint64_t value) {
    add(w, object, key, yyjson_mut_uint(w->doc, value));
}

void emb_json_add_number(emb_json_writer *w, emb_json_node *object, const char *key, double value) {
    add(w, object, key, yyjson_mut_real(w->doc, value));
}

void emb_json_add_bool(emb_json_writer *w, emb_json_node *object, const char *key, int value) {
    add(w, object, key, yyjson_mut_bool(w->doc, value != 0));
}

emb_json_node *emb_json_add_object(emb_json_writer *w, emb_json_node *object, const char *key) {
    return add(w, object, key, yyjson_mut_obj(w->doc));
}

emb_json_node *emb_json_add_array(emb_json_writer *w, emb_json_node *object, const char *key) {
    return add(w, object, key, yyjson_mut_arr(w->doc));
}

void emb_json_append_int(emb_json_writer *w, emb_json_node *array, int64_t value) {
    append(w, array, yyjson_mut_sint(w->doc, value));
}

emb_json_node *emb_json_append_object(emb_json_writer *w, emb_json_node *array) {
    return append(w, array, yyjson_mut_obj(w->doc));
}

embed_status emb_json_writer_text(emb_json_writer *w, char **text, size_t *len) {
    yyjson_write_err err = {0};
    *text = NULL;
    if (!w->failed)
        *text = yyjson_mut_write_opts(w->doc,
                                      YYJSON_WRITE_PRETTY_TWO_SPACES | YYJSON_WRITE_NEWLINE_AT_END,
                                      &w->alc, len, &err);
    if (*text == NULL && err.code == YYJSON_WRITE_ERROR_INVALID_STRING)
        return emb_fail(EMBED_ERR_UTF8, "expected UTF-8, found other bytes");
    if (*text == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "out of memory for JSON");
    return EMBED_OK;
}

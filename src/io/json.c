#include "io/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "third_party/yyjson/yyjson_static.h"

struct emb_json_doc {
    emb_env env;
    yyjson_doc *doc;
    char *name;
};

/* The library's functions take non-const values that they do not write to. */
static yyjson_val *yy(const emb_json *value) {
    return (yyjson_val *)(uintptr_t)value;
}

static void *yy_malloc(void *ctx, size_t size) {
    void *block;
    return emb_alloc(ctx, size, &block) == EMBED_OK ? block : NULL;
}

static void *yy_realloc(void *ctx, void *ptr, size_t old_size, size_t size) {
    (void)old_size; /* blocks know it */
    return emb_realloc(ctx, size, &ptr) == EMBED_OK ? ptr : NULL;
}

static void yy_free(void *ctx, void *ptr) {
    emb_free(ctx, ptr);
}

static embed_status fail_parse(const char *name, const char *text, size_t len,
                               const yyjson_read_err *err) {
    size_t line = 1, start = 0;
    if (err->code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
        return emb_fail(EMBED_ERR_NOMEM, "%s: out of memory for the JSON values", name);
    for (size_t i = 0; i < err->pos && i < len; i++)
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    return emb_fail(EMBED_ERR_FORMAT, "%s: expected JSON, line %zu column %zu: %s", name, line,
                    err->pos - start + 1, err->msg);
}

/* The parser itself does not recurse, but whoever walks the values may: refuse what is deeper than
 * serde_json allows, the parser of the reference tokenizers and safetensors libraries. */
static embed_status check_depth(const char *name, const char *text, size_t len) {
    size_t depth = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"') { /* to the end of the string */
            for (i++; i < len && text[i] != '"'; i++)
                i += text[i] == '\\';
        } else if (text[i] == '[' || text[i] == '{') {
            if (++depth > EMB_JSON_MAX_DEPTH)
                return emb_fail(EMBED_ERR_FORMAT,
                                "%s: expected at most %d levels of JSON, found more at byte %zu",
                                name, EMB_JSON_MAX_DEPTH, i);
        } else if ((text[i] == ']' || text[i] == '}') && depth > 0) {
            depth--;
        }
    }
    return EMBED_OK;
}

static embed_status parse(emb_json_doc **out, const emb_env *env, const char *name,
                          const char *text, size_t len, yyjson_read_flag flags) {
    embed_status st;
    void *block;
    yyjson_read_err err;
    *out = NULL;
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
        text += 3;
        len -= 3;
    }
    if ((st = check_depth(name, text, len)) != EMBED_OK ||
        (st = emb_new(env, sizeof(emb_json_doc), &block)) != EMBED_OK)
        return st;
    emb_json_doc *doc = block;
    doc->env = *env;
    EMB_TRY(emb_strdup(env, name, strlen(name), &doc->name));
    const yyjson_alc alc = {yy_malloc, yy_realloc, yy_free, &doc->env};
    /* Without YYJSON_READ_INSITU the text is not written to. */
    doc->doc = yyjson_read_opts((char *)(uintptr_t)text, len, flags, &alc, &err);
    if (doc->doc == NULL) {
        st = fail_parse(name, text, len, &err);
        goto fail;
    }
    *out = doc;
    return EMBED_OK;
fail:
    emb_json_free(doc);
    return st;
}

embed_status emb_json_parse(emb_json_doc **out, const emb_env *env, const char *name,
                            const char *text, size_t len) {
    return parse(out, env, name, text, len, YYJSON_READ_ALLOW_INF_AND_NAN);
}

static embed_status open_file(emb_json_doc **out, const emb_env *env, const char *path,
                              size_t max_bytes, yyjson_read_flag flags) {
    char *text;
    size_t len;
    *out = NULL;
    embed_status st = emb_file_read(path, env, max_bytes, 0, &text, &len);
    if (st != EMBED_OK)
        return st;
    st = parse(out, env, path, text, len, flags);
    emb_free(env, text);
    return st;
}

embed_status emb_json_open(emb_json_doc **out, const emb_env *env, const char *path,
                           size_t max_bytes) {
    return open_file(out, env, path, max_bytes, YYJSON_READ_ALLOW_INF_AND_NAN);
}

embed_status emb_json_open_digits(emb_json_doc **out, const emb_env *env, const char *path,
                                  size_t max_bytes) {
    return open_file(out, env, path, max_bytes, YYJSON_READ_NUMBER_AS_RAW);
}

void emb_json_free(emb_json_doc *doc) {
    if (doc == NULL)
        return;
    const emb_env env = doc->env;
    yyjson_doc_free(doc->doc);
    emb_free(&env, doc->name);
    emb_free(&env, doc);
}

const emb_json *emb_json_root(const emb_json_doc *doc) {
    return doc->doc->root;
}

const char *emb_json_name(const emb_json_doc *doc) {
    return doc->name;
}

/* ------------------------------------------------------------------------------- plain access */

emb_json_type emb_json_type_of(const emb_json *value) {
    switch (yyjson_get_type(yy(value))) {
    case YYJSON_TYPE_NULL:
        return EMB_JSON_NULL;
    case YYJSON_TYPE_BOOL:
        return EMB_JSON_BOOL;
    case YYJSON_TYPE_NUM:
    case YYJSON_TYPE_RAW: /* a number that kept its digits */
        return EMB_JSON_NUMBER;
    case YYJSON_TYPE_STR:
        return EMB_JSON_STRING;
    case YYJSON_TYPE_ARR:
        return EMB_JSON_ARRAY;
    case YYJSON_TYPE_OBJ:
        return EMB_JSON_OBJECT;
    default:
        return EMB_JSON_ABSENT;
    }
}

int emb_json_is_true(const emb_json *value) {
    return yyjson_is_true(yy(value));
}

/* The value itself, or the number that its digits stand for. */
static yyjson_val number_of(const emb_json *value) {
    yyjson_val number = {0, {0}};
    if (yyjson_is_num(yy(value)))
        number = *value;
    else if (yyjson_is_raw(yy(value)))
        (void)yyjson_read_number(yyjson_get_raw(yy(value)), &number, YYJSON_READ_NOFLAG, NULL,
                                 NULL);
    return number;
}

int emb_json_is_integer(const emb_json *value) {
    yyjson_val n = number_of(value);
    return yyjson_is_sint(&n) || (yyjson_is_uint(&n) && yyjson_get_uint(&n) <= INT64_MAX);
}

int64_t emb_json_integer(const emb_json *value) {
    yyjson_val n = number_of(value);
    return emb_json_is_integer(value) ? yyjson_get_sint(&n) : 0;
}

double emb_json_number(const emb_json *value) {
    yyjson_val n = number_of(value);
    return yyjson_get_num(&n);
}

const char *emb_json_digits(const emb_json *value, size_t *len) {
    const char *digits = yyjson_get_raw(yy(value));
    *len = digits == NULL ? 0 : yyjson_get_len(yy(value));
    return digits == NULL ? "" : digits;
}

const char *emb_json_string(const emb_json *value, size_t *len) {
    const char *text = yyjson_get_str(yy(value));
    if (len != NULL)
        *len = text == NULL ? 0 : yyjson_get_len(yy(value));
    return text == NULL ? "" : text;
}

int emb_json_equals(const emb_json *value, const char *text) {
    return yyjson_equals_str(yy(value), text);
}

size_t emb_json_count(const emb_json *value) {
    return yyjson_is_arr(yy(value)) || yyjson_is_obj(yy(value)) ? unsafe_yyjson_get_len(yy(value))
                                                                : 0;
}

emb_json_iter emb_json_iterate(const emb_json *value) {
    const size_t n = emb_json_count(value);
    return (emb_json_iter){n > 0 ? unsafe_yyjson_get_first(yy(value)) : NULL, n,
                           yyjson_is_obj(yy(value)), 0};
}

const emb_json *emb_json_next(emb_json_iter *it, const emb_json **key) {
    if (key != NULL)
        *key = NULL;
    if (it->left == 0)
        return NULL;
    const emb_json *value = it->next;
    if (it->object) {
        if (key != NULL)
            *key = value;
        value++;
    }
    it->left--;
    it->next = unsafe_yyjson_get_next(yy(value));
    return value;
}

/* ----------------------------------------------------------------------------------- messages */

const char *emb_json_show(const emb_json *value, char buf[EMB_JSON_SHOWN]) {
    size_t len;
    switch (emb_json_type_of(value)) {
    case EMB_JSON_ABSENT:
        (void)snprintf(buf, EMB_JSON_SHOWN, "nothing");
        break;
    case EMB_JSON_NULL:
        (void)snprintf(buf, EMB_JSON_SHOWN, "null");
        break;
    case EMB_JSON_BOOL:
        (void)snprintf(buf, EMB_JSON_SHOWN, "%s", emb_json_is_true(value) ? "true" : "false");
        break;
    case EMB_JSON_NUMBER:
        if (emb_json_is_integer(value))
            (void)snprintf(buf, EMB_JSON_SHOWN, "%" PRId64, emb_json_integer(value));
        else
            (void)snprintf(buf, EMB_JSON_SHOWN, "%.15g", emb_json_number(value));
        break;
    case EMB_JSON_STRING: {
        const char *text = emb_json_string(value, &len);
        const int cut = len > 60;
        (void)snprintf(buf, EMB_JSON_SHOWN, "\"%.*s%s\"", cut ? 60 : (int)len, text,
                       cut ? "..." : "");
        break;
    }
    case EMB_JSON_ARRAY:
        (void)snprintf(buf, EMB_JSON_SHOWN, "an array of %zu", emb_json_count(value));
        break;
    case EMB_JSON_OBJECT:
        (void)snprintf(buf, EMB_JSON_SHOWN, "an object of %zu", emb_json_count(value));
        break;
    }
    return buf;
}

/* Append the path from the root to `target`, such as "model.vocab[3]". Values lie in one array in
 * the order of the text, a container before its contents, so the way down is the chain of
 * containers that span the target. */
static void path_of(const emb_json_doc *doc, const emb_json *target, char *path, size_t cap) {
    const emb_json *at = doc->doc->root, *key, *value;
    size_t used = 0;
    path[0] = '\0';
    while (at != target && used < cap) {
        size_t index = 0;
        emb_json_iter it = emb_json_iterate(at);
        while ((value = emb_json_next(&it, &key)) != NULL &&
               unsafe_yyjson_get_next(yy(value)) <= target)
            index++;
        if (value == NULL)
            return;
        const int n = key == NULL ? snprintf(path + used, cap - used, "[%zu]", index)
                                  : snprintf(path + used, cap - used, "%s%.64s",
                                             used > 0 ? "." : "", emb_json_string(key, NULL));
        used += n > 0 ? (size_t)n : 0;
        at = value;
    }
}

/* The first member of that name, and how many there are. */
static const emb_json *member(const emb_json *object, const char *key, int *times) {
    const emb_json *found = NULL, *name, *value;
    *times = 0;
    if (!yyjson_is_obj(yy(object)))
        return NULL;
    emb_json_iter it = emb_json_iterate(object);
    while ((value = emb_json_next(&it, &name)) != NULL)
        if (emb_json_equals(name, key) && (*times)++ == 0)
            found = value;
    return found;
}

embed_status emb_json_fail(embed_status status, const emb_json_doc *doc, const emb_json *object,
                           const char *key, const char *fmt, ...) {
    char path[256], text[512], found[EMB_JSON_SHOWN];
    const emb_json *value = object;
    va_list args;
    int times;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    path_of(doc, object, path, sizeof path);
    if (key != NULL)
        value = member(object, key, &times);
    return emb_fail(status, "%s: %s%s%s%s%s, found %s", doc->name, path,
                    key != NULL && path[0] != '\0' ? "." : "", key != NULL ? key : "",
                    key != NULL || path[0] != '\0' ? ": " : "", text, emb_json_show(value, found));
}

/* ------------------------------------------------------------------------------------ getters */

static const char *type_name(emb_json_type type) {
    static const char *const names[] = {"nothing",  "null",     "true or false", "a number",
                                        "a string", "an array", "an object"};
    return names[type];
}

embed_status emb_json_find(const emb_json_doc *doc, const emb_json *object, const char *key,
                           const emb_json **out) {
    int times;
    *out = NULL;
    if (!yyjson_is_obj(yy(object)))
        return emb_json_fail(EMBED_ERR_FORMAT, doc, object, NULL, "expected an object");
    const emb_json *value = member(object, key, &times);
    if (times > 1)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, object, key,
                             "expected one value, the key stands there %d times", times);
    *out = value;
    return EMBED_OK;
}

/* As emb_json_find, for a value of one type; absent or null gives NULL unless needed. */
static embed_status typed(const emb_json_doc *doc, const emb_json *object, const char *key,
                          emb_json_type type, int needed, const emb_json **out) {
    const emb_json *value;
    const embed_status st = emb_json_find(doc, object, key, &value);
    *out = NULL;
    if (st != EMBED_OK)
        return st;
    if (!needed && (value == NULL || yyjson_is_null(yy(value))))
        return EMBED_OK;
    if (emb_json_type_of(value) != type)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, object, key, "expected %s", type_name(type));
    *out = value;
    return EMBED_OK;
}

static embed_status typed_bool(const emb_json_doc *doc, const emb_json *object, const char *key,
                               int needed, int32_t *out) {
    const emb_json *value;
    const embed_status st = typed(doc, object, key, EMB_JSON_BOOL, needed, &value);
    if (value != NULL)
        *out = emb_json_is_true(value);
    return st;
}

static embed_status typed_int(const emb_json_doc *doc, const emb_json *object, const char *key,
                              int32_t least, int32_t greatest, int needed, int32_t *out) {
    const emb_json *value;
    const embed_status st = typed(doc, object, key, EMB_JSON_NUMBER, needed, &value);
    if (value == NULL)
        return st;
    const int64_t n = emb_json_integer(value);
    if (!emb_json_is_integer(value) || n < least || n > greatest)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, object, key,
                             "expected an integer from %" PRId32 " to %" PRId32, least, greatest);
    *out = (int32_t)n;
    return EMBED_OK;
}

static embed_status typed_number(const emb_json_doc *doc, const emb_json *object, const char *key,
                                 int needed, double *out) {
    const emb_json *value;
    const embed_status st = typed(doc, object, key, EMB_JSON_NUMBER, needed, &value);
    if (value == NULL)
        return st;
    if (!isfinite(emb_json_number(value)))
        return emb_json_fail(EMBED_ERR_FORMAT, doc, object, key, "expected a finite number");
    *out = emb_json_number(value);
    return EMBED_OK;
}

static embed_status typed_string(const emb_json_doc *doc, const emb_json *object, const char *key,
                                 int needed, const char **out, size_t *len) {
    const emb_json *value;
    const embed_status st = typed(doc, object, key, EMB_JSON_STRING, needed, &value);
    if (value != NULL)
        *out = emb_json_string(value, len);
    return st;
}

embed_status emb_json_need(const emb_json_doc *doc, const emb_json *object, const char *key,
                           emb_json_type type, const emb_json **out) {
    return typed(doc, object, key, type, 1, out);
}

embed_status emb_json_need_bool(const emb_json_doc *doc, const emb_json *object, const char *key,
                                int32_t *out) {
    return typed_bool(doc, object, key, 1, out);
}

embed_status emb_json_need_int(const emb_json_doc *doc, const emb_json *object, const char *key,
                               int32_t least, int32_t greatest, int32_t *out) {
    return typed_int(doc, object, key, least, greatest, 1, out);
}

embed_status emb_json_need_number(const emb_json_doc *doc, const emb_json *object, const char *key,
                                  double *out) {
    return typed_number(doc, object, key, 1, out);
}

embed_status emb_json_need_string(const emb_json_doc *doc, const emb_json *object, const char *key,
                                  const char **out, size_t *len) {
    return typed_string(doc, object, key, 1, out, len);
}

embed_status emb_json_get(const emb_json_doc *doc, const emb_json *object, const char *key,
                          emb_json_type type, const emb_json **out) {
    const emb_json *value;
    const embed_status st = typed(doc, object, key, type, 0, &value);
    if (value != NULL)
        *out = value;
    return st;
}

embed_status emb_json_get_bool(const emb_json_doc *doc, const emb_json *object, const char *key,
                               int32_t *out) {
    return typed_bool(doc, object, key, 0, out);
}

embed_status emb_json_get_int(const emb_json_doc *doc, const emb_json *object, const char *key,
                              int32_t least, int32_t greatest, int32_t *out) {
    return typed_int(doc, object, key, least, greatest, 0, out);
}

embed_status emb_json_get_number(const emb_json_doc *doc, const emb_json *object, const char *key,
                                 double *out) {
    return typed_number(doc, object, key, 0, out);
}

embed_status emb_json_get_string(const emb_json_doc *doc, const emb_json *object, const char *key,
                                 const char **out, size_t *len) {
    return typed_string(doc, object, key, 0, out, len);
}

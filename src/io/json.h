/* json: JSON files, read whole and then only looked at. Values are views into the document;
 * numbers, strings and structure were checked by the parser (UTF-8, no lone surrogates, at most 128
 * levels deep). Python's NaN, Infinity and -Infinity and a byte order mark are read.
 *
 * Getters report a wrong document as "<file>: <path.to.key>: expected ..., found ...". A key that
 * is looked up and stands twice in its object is an error: readers disagree about which one counts.
 */
#ifndef EMB_IO_JSON_H
#define EMB_IO_JSON_H

#include "base/alloc.h"

#define EMB_JSON_MAX_DEPTH 128

typedef struct emb_json_doc emb_json_doc;
typedef struct yyjson_val emb_json; /* a value; valid as long as its document */

typedef enum emb_json_type {
    EMB_JSON_ABSENT = 0, /* type of NULL: no such value */
    EMB_JSON_NULL = 1,
    EMB_JSON_BOOL = 2,
    EMB_JSON_NUMBER = 3,
    EMB_JSON_STRING = 4,
    EMB_JSON_ARRAY = 5,
    EMB_JSON_OBJECT = 6
} emb_json_type;

/* Read and parse a file. Errors: _IO; _FORMAT if it is not JSON (line and column are named) or has
 * more than max_bytes; _NOMEM. */
embed_status emb_json_open(emb_json_doc **out, const emb_env *env, const char *path,
                           size_t max_bytes);
/* Parse len bytes, copied; `name` stands for the file in messages. */
embed_status emb_json_parse(emb_json_doc **out, const emb_env *env, const char *name,
                            const char *text, size_t len);
/* As emb_json_open, but numbers keep their digits for emb_json_digits: for files whose reference
 * reader rounds decimal fractions in its own way. All other calls work as ever, numbers slower. */
embed_status emb_json_open_digits(emb_json_doc **out, const emb_env *env, const char *path,
                                  size_t max_bytes);
void emb_json_free(emb_json_doc *doc); /* NULL is a no-op */
const emb_json *emb_json_root(const emb_json_doc *doc);
const char *emb_json_name(const emb_json_doc *doc); /* the path or name given */

/* Plain access; a value of another type reads as 0, "" or empty. */
emb_json_type emb_json_type_of(const emb_json *value);
int emb_json_is_true(const emb_json *value);
int emb_json_is_integer(const emb_json *value); /* without fraction or exponent, fits int64_t */
int64_t emb_json_integer(const emb_json *value);
double emb_json_number(const emb_json *value); /* may be NaN or infinite */
/* The number as it stands in the file, *len bytes; "" unless opened with digits. */
const char *emb_json_digits(const emb_json *value, size_t *len);
/* UTF-8, NUL-terminated after *len bytes (which may hold NULs); len may be NULL. */
const char *emb_json_string(const emb_json *value, size_t *len);
int emb_json_equals(const emb_json *value, const char *text); /* is that very string */
size_t emb_json_count(const emb_json *value);                 /* elements or members */

/* Elements of an array, or members of an object in file order; other values have none:
 *   for (emb_json_iter it = emb_json_iterate(v); (x = emb_json_next(&it, &key)) != NULL;) */
typedef struct emb_json_iter {
    const emb_json *next;
    size_t left;
    int32_t object;
    int32_t reserved;
} emb_json_iter;
emb_json_iter emb_json_iterate(const emb_json *value);
/* key: the member's name (a string value), NULL for elements; may be NULL if not wanted. */
const emb_json *emb_json_next(emb_json_iter *it, const emb_json **key);

/* Member `key` of `object`. *out is NULL if there is none.
 * Errors: _FORMAT if `object` is not an object or has the key twice. */
embed_status emb_json_find(const emb_json_doc *doc, const emb_json *object, const char *key,
                           const emb_json **out);

/* Members that must be there and of this type. A number must be finite, an integer within
 * least .. greatest. */
embed_status emb_json_need(const emb_json_doc *doc, const emb_json *object, const char *key,
                           emb_json_type type, const emb_json **out);
embed_status emb_json_need_bool(const emb_json_doc *doc, const emb_json *object, const char *key,
                                int32_t *out);
embed_status emb_json_need_int(const emb_json_doc *doc, const emb_json *object, const char *key,
                               int32_t least, int32_t greatest, int32_t *out);
embed_status emb_json_need_number(const emb_json_doc *doc, const emb_json *object, const char *key,
                                  double *out);
embed_status emb_json_need_string(const emb_json_doc *doc, const emb_json *object, const char *key,
                                  const char **out, size_t *len);

/* Members that may be absent or null: *out then stays as it is. */
embed_status emb_json_get(const emb_json_doc *doc, const emb_json *object, const char *key,
                          emb_json_type type, const emb_json **out);
embed_status emb_json_get_bool(const emb_json_doc *doc, const emb_json *object, const char *key,
                               int32_t *out);
embed_status emb_json_get_int(const emb_json_doc *doc, const emb_json *object, const char *key,
                              int32_t least, int32_t greatest, int32_t *out);
embed_status emb_json_get_number(const emb_json_doc *doc, const emb_json *object, const char *key,
                                 double *out);
embed_status emb_json_get_string(const emb_json_doc *doc, const emb_json *object, const char *key,
                                 const char **out, size_t *len);

/* Fail with "<file>: <path of object>.<key>: <message>, found <value>"; key NULL: about `object`
 * itself. For UNSUPPORTED and MISMATCH findings of the caller. */
embed_status emb_json_fail(embed_status status, const emb_json_doc *doc, const emb_json *object,
                           const char *key, const char *fmt, ...) EMB_PRINTF(5, 6);

/* Short text for messages: true, 12, "abc", "an array of 3", null, nothing. Returns buf. */
#define EMB_JSON_SHOWN 80
const char *emb_json_show(const emb_json *value, char buf[EMB_JSON_SHOWN]);

#endif

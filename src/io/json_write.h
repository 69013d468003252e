/* json_write: building and writing a JSON object. Building never fails on the spot: a failed
 * allocation is remembered and reported by emb_json_writer_save or _text. */
#ifndef EMB_IO_JSON_WRITE_H
#define EMB_IO_JSON_WRITE_H

#include "base/alloc.h"

typedef struct emb_json_writer emb_json_writer;
typedef struct yyjson_mut_val emb_json_node; /* NULL after a failed allocation; adding to it is a
                                                no-op */

embed_status emb_json_writer_create(emb_json_writer **out, const emb_env *env);
void emb_json_writer_free(emb_json_writer *w);           /* NULL is a no-op */
emb_json_node *emb_json_writer_root(emb_json_writer *w); /* an object */

/* Members in the order they are added. Keys and strings are copied; a NULL string writes null. */
void emb_json_add_string(emb_json_writer *w, emb_json_node *object, const char *key,
                         const char *value);
void emb_json_add_int(emb_json_writer *w, emb_json_node *object, const char *key, int64_t value);
void emb_json_add_uint(emb_json_writer *w, emb_json_node *object, const char *key, uint64_t value);
void emb_json_add_number(emb_json_writer *w, emb_json_node *object, const char *key, double value);
void emb_json_add_bool(emb_json_writer *w, emb_json_node *object, const char *key, int value);
emb_json_node *emb_json_add_object(emb_json_writer *w, emb_json_node *object, const char *key);
emb_json_node *emb_json_add_array(emb_json_writer *w, emb_json_node *object, const char *key);
void emb_json_append_int(emb_json_writer *w, emb_json_node *array, int64_t value);
emb_json_node *emb_json_append_object(emb_json_writer *w, emb_json_node *array);

/* The text, indented, NUL-terminated, for emb_free. */
embed_status emb_json_writer_text(emb_json_writer *w, char **text, size_t *len);

#endif

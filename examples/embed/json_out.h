/* json_out: the --json output of commands, as calls that take little stack (yyjson's are inlined
 * and take kilobytes each in a build without optimisation). Texts and names are borrowed until
 * json_out_print, but the names of objects and arrays are copied. Memory that runs short is told by
 * json_out_print. */
#ifndef EMBED_PROGRAM_JSON_OUT_H
#define EMBED_PROGRAM_JSON_OUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct yyjson_mut_doc json_doc;
typedef struct yyjson_mut_val json_value;

/* A document whose root is an empty object; NULL if memory is short, which all calls accept. */
json_doc *json_out_new(json_value **root);
void json_out_uint(json_doc *doc, json_value *object, const char *name, uint64_t value);
void json_out_int(json_doc *doc, json_value *object, const char *name, int64_t value);
void json_out_real(json_doc *doc, json_value *object, const char *name, double value);
void json_out_bool(json_doc *doc, json_value *object, const char *name, int value);
void json_out_text(json_doc *doc, json_value *object, const char *name, const char *value);
/* The same of a value that does not live so long. */
void json_out_copy(json_doc *doc, json_value *object, const char *name, const char *value);
void json_out_uints(json_doc *doc, json_value *object, const char *name, const uint64_t *values,
                    size_t n);
/* An empty object or array under `name`, to be filled. In an array `name` is not used. */
json_value *json_out_object(json_doc *doc, json_value *parent, const char *name);
json_value *json_out_array(json_doc *doc, json_value *parent, const char *name);
void json_out_item(json_doc *doc, json_value *array, const char *text);
/* Print with a line end and free; an exit code after a message. */
int json_out_print(json_doc *doc, const char *who, FILE *file);

#endif

#include "json_out.h"

#include <stdlib.h>

#include "third_party/yyjson/yyjson.h"
#include "tool.h"

json_doc *json_out_new(json_value **root) {
    json_doc *doc = yyjson_mut_doc_new(NULL);
    *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, *root);
    return doc;
}

/* Memory ran short: a document without a root does not print. */
static void check(json_doc *doc, int added) {
    if (!added && doc)
        yyjson_mut_doc_set_root(doc, NULL);
}

void json_out_uint(json_doc *doc, json_value *object, const char *name, uint64_t value) {
    check(doc, yyjson_mut_obj_add_uint(doc, object, name, value));
}

void json_out_int(json_doc *doc, json_value *object, const char *name, int64_t value) {
    check(doc, yyjson_mut_obj_add_sint(doc, object, name, value));
}

void json_out_real(json_doc *doc, json_value *object, const char *name, double value) {
    check(doc, yyjson_mut_obj_add_real(doc, object, name, value));
}

void json_out_bool(json_doc *doc, json_value *object, const char *name, int value) {
    check(doc, yyjson_mut_obj_add_bool(doc, object, name, value != 0));
}

void json_out_text(json_doc *doc, json_value *object, const char *name, const char *value) {
    check(doc, yyjson_mut_obj_add_str(doc, object, name, value));
}

void json_out_copy(json_doc *doc, json_value *object, const char *name, const char *value) {
    check(doc, yyjson_mut_obj_add_strcpy(doc, object, name, value));
}

static json_value *add(json_doc *doc, json_value *parent, const char *name, json_value *value) {
    check(doc, yyjson_mut_is_arr(parent)
                   ? yyjson_mut_arr_append(parent, value)
                   : yyjson_mut_obj_add(parent, yyjson_mut_strcpy(doc, name), value));
    return value;
}

void json_out_uints(json_doc *doc, json_value *object, const char *name, const uint64_t *values,
                    size_t n) {
    add(doc, object, name, yyjson_mut_arr_with_uint64(doc, values, n));
}

json_value *json_out_object(json_doc *doc, json_value *parent, const char *name) {
    return add(doc, parent, name, yyjson_mut_obj(doc));
}

json_value *json_out_array(json_doc *doc, json_value *parent, const char *name) {
    return add(doc, parent, name, yyjson_mut_arr(doc));
}

void json_out_item(json_doc *doc, json_value *array, const char *text) {
    check(doc, yyjson_mut_arr_add_str(doc, array, text));
}

int json_out_print(json_doc *doc, const char *who, FILE *file) {
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, NULL);
    yyjson_mut_doc_free(doc);
    if (!text)
        return tool_fail(who, "not enough memory");
    fprintf(file, "%s\n", text);
    free(text);
    return EXIT_OK;
}

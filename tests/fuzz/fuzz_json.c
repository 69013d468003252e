/* fuzz_json: bytes as a JSON document; every value is then walked and asked for as each type. */
#include "fuzz/fuzz.h"

#include "io/json.h"

static size_t walk(const emb_json_doc *doc, const emb_json *value, int depth) {
    char shown[EMB_JSON_SHOWN];
    size_t n = 1, len;
    FUZZ_CHECK(depth <= EMB_JSON_MAX_DEPTH + 1);
    FUZZ_CHECK(strlen(emb_json_show(value, shown)) < EMB_JSON_SHOWN);
    FUZZ_CHECK(emb_json_string(value, &len)[len] == 0);
    emb_json_is_true(value);
    if (emb_json_is_integer(value))
        FUZZ_CHECK(emb_json_type_of(value) == EMB_JSON_NUMBER);
    const emb_json *key, *child;
    size_t children = 0;
    for (emb_json_iter it = emb_json_iterate(value); (child = emb_json_next(&it, &key)) != NULL;) {
        children++;
        if (key) {
            const char *name = emb_json_string(key, NULL);
            const emb_json *found = NULL;
            double number;
            int32_t integer;
            const embed_status st = emb_json_find(doc, value, name, &found);
            fuzz_check_status(st);
            /* A name with a NUL inside is looked up by its start, so it may be absent. */
            emb_json_get_number(doc, value, name, &number);
            emb_json_get_int(doc, value, name, -5, 5, &integer);
        }
        n += walk(doc, child, depth + 1);
    }
    FUZZ_CHECK(children == emb_json_count(value));
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const emb_env env = fuzz_env();
    emb_json_doc *doc = NULL;
    const embed_status st = emb_json_parse(&doc, &env, "input", (const char *)data, size);
    fuzz_check_status(st);
    FUZZ_CHECK((st == EMBED_OK) == (doc != NULL));
    if (doc)
        walk(doc, emb_json_root(doc), 0);
    emb_json_free(doc);
    return 0;
}

#include "support/json_edit.h"

#include "support/files.h"

void test_write_json(const char *dir, const char *name, const char *base, const test_edit *edits) {
    char out[3500] = "{", key[128];
    size_t used = 1;
    for (const char *line = base, *end; *line != '\0'; line = end + 1) {
        const char *value = strstr(line, "\": ");
        const test_edit *edit = edits;
        end = strchr(line, '\n');
        assert_true(value != NULL && end != NULL && value < end);
        (void)snprintf(key, sizeof key, "%.*s", (int)(value - line - 1), line + 1);
        while (edit != NULL && edit->key != NULL && strcmp(edit->key, key) != 0)
            edit++;
        if (edit == NULL || edit->key == NULL)
            used += (size_t)snprintf(out + used, sizeof out - used, "%s%.*s", used > 1 ? ",\n" : "",
                                     (int)(end - line), line);
        else if (edit->value != NULL)
            used += (size_t)snprintf(out + used, sizeof out - used, "%s\"%s\": %s",
                                     used > 1 ? ",\n" : "", key, edit->value);
    }
    for (; edits != NULL && edits->key != NULL; edits++) {
        (void)snprintf(key, sizeof key, "\"%s\": ", edits->key);
        if (edits->value != NULL && strstr(base, key) == NULL)
            used += (size_t)snprintf(out + used, sizeof out - used, "%s%s%s", used > 1 ? ",\n" : "",
                                     key, edits->value);
    }
    assert_true(used + 2 < sizeof out);
    (void)strcpy(out + used, "}");
    test_write(dir, name, out, -1);
}

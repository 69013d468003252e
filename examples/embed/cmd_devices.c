/* embed devices: what this machine can encode on, and why not on the rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "third_party/yyjson/yyjson.h"
#include "tool.h"
#include "units.h"

/* "cpu", "cuda:0", or "cuda" for the entry that only says why there is none. */
static void print_name(const embed_device *d, char *out, size_t size) {
    if (d->kind == EMBED_DEVICE_CPU)
        snprintf(out, size, "cpu");
    else if (d->index < 0)
        snprintf(out, size, "cuda");
    else
        snprintf(out, size, "cuda:%d", d->index);
}

static void print_memory(const embed_device *d) {
    char total[16], left[16];
    if (d->memory_total == 0)
        return;
    printf(", %s", units_size(d->memory_total, total));
    if (d->memory_free != UINT64_MAX)
        printf(", %s free", units_size(d->memory_free, left));
}

static void print_device(const embed_device *d) {
    char name[32];
    print_name(d, name, sizeof name);
    printf("%-8s  %-8s", name, d->usable ? "usable" : "unusable");
    if (d->index < 0) {
        printf("  %s\n", d->reason);
        return;
    }
    printf("  %s", d->name);
    if (d->kind == EMBED_DEVICE_CPU)
        printf(", %d CPU%s", d->processors, d->processors == 1 ? "" : "s");
    if (d->capability_major > 0)
        printf(", compute capability %d.%d, %d multiprocessors", d->capability_major,
               d->capability_minor, d->processors);
    print_memory(d);
    if (d->driver > 0)
        printf(", driver for CUDA %d.%d", d->driver / 1000, d->driver % 1000 / 10);
    printf("\n");
    if (!d->usable)
        printf("%-8s  %-8s  %s\n", "", "", d->reason);
}

static void add(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                yyjson_mut_val *value) {
    yyjson_mut_obj_add(object, yyjson_mut_str(doc, key), value);
}

static void add_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                     const char *text) {
    add(doc, object, key, yyjson_mut_strcpy(doc, text));
}

/* UINT64_MAX: not known */
static void add_bytes(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                      uint64_t bytes) {
    add(doc, object, key, bytes == UINT64_MAX ? yyjson_mut_null(doc) : yyjson_mut_uint(doc, bytes));
}

static void add_device(yyjson_mut_doc *doc, yyjson_mut_val *list, const embed_device *d) {
    char name[32];
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, list);
    const struct {
        const char *key;
        int32_t value;
    } numbers[] = {{"index", d->index},
                   {"processors", d->processors},
                   {"capability_major", d->capability_major},
                   {"capability_minor", d->capability_minor},
                   {"driver", d->driver}};
    print_name(d, name, sizeof name);
    add_text(doc, object, "device", name);
    add_text(doc, object, "kind", d->kind == EMBED_DEVICE_CPU ? "cpu" : "cuda");
    add_text(doc, object, "name", d->name);
    add(doc, object, "usable", yyjson_mut_bool(doc, d->usable != 0));
    add_text(doc, object, "reason", d->reason);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        add(doc, object, numbers[i].key, yyjson_mut_sint(doc, numbers[i].value));
    add_bytes(doc, object, "memory_total", d->memory_total);
    add_bytes(doc, object, "memory_free", d->memory_free);
}

int cmd_devices(int argc, char **argv) {
    int32_t json = 0, n = 0;
    int first;
    const command cmd = {"devices",
                         "[--json]",
                         "Lists what texts can be encoded on here, and why not on the rest.",
                         "  embed devices\n"
                         "  embed devices --json | jq '.[] | select(.usable) | .device'\n",
                         0,
                         0};
    const option_spec table[] = {{"output", "json", NULL, "one JSON array instead of a table",
                                  &json, NULL, OPTION_FLAG, 0, 0, 0},
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (embed_device_count(&n) != EMBED_OK)
        return tool_fail(argv[0], "%s", embed_last_error());
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, list);
    int code = EXIT_OK;
    for (int32_t i = 0; i < n && code == EXIT_OK; i++) {
        embed_device d = {.struct_size = sizeof d};
        if (embed_device_info(i, &d) != EMBED_OK)
            code = tool_fail(argv[0], "%s", embed_last_error());
        else if (json)
            add_device(doc, list, &d);
        else
            print_device(&d);
    }
    char *text = json ? yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, NULL) : NULL;
    if (code == EXIT_OK && json && text == NULL)
        code = tool_fail(argv[0], "not enough memory");
    else if (code == EXIT_OK && json)
        puts(text);
    free(text);
    yyjson_mut_doc_free(doc);
    return code == EXIT_OK ? tool_flush_stdout(argv[0]) : code;
}

#include "choices_out.h"

#include <inttypes.h>

#include "tool.h"

static int get(const char *who, const embed_context *ctx, int32_t i, embed_device_choice *c) {
    *c = (embed_device_choice){.struct_size = sizeof *c};
    if (embed_context_get_choice(ctx, i, c) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    return EXIT_OK;
}

static const char *runner(const embed_device_choice *c) {
    return c->strategy == EMBED_PRODUCTS_LIBRARY ? "library" : "own";
}

int choices_count(const char *who, const embed_context *ctx) {
    embed_device_choice c;
    int n = 0;
    for (int32_t i = 0; i == 0 || i < c.count; i++) {
        if (get(who, ctx, i, &c) != EXIT_OK)
            return -1;
        n += i < c.count && c.strategy == EMBED_PRODUCTS_LIBRARY;
    }
    return n;
}

int choices_print(const char *who, const embed_context *ctx) {
    embed_device_choice c;
    if (get(who, ctx, 0, &c) != EXIT_OK)
        return EXIT_FAILED;
    if (c.count == 0) {
        printf("products       our own kernels%s%s\n", c.reason[0] ? ": " : "", c.reason);
        return EXIT_OK;
    }
    printf("products       rows x columns x depth           runs     own us  library us\n");
    for (int32_t i = 0; i < c.count; i++) {
        if (get(who, ctx, i, &c) != EXIT_OK)
            return EXIT_FAILED;
        printf("  %-11s  %8" PRId64 " x %7" PRId64 " x %6" PRId64 "  %-7s  %9.1f  %10.1f  %s\n",
               c.name, c.rows, c.columns, c.depth, runner(&c), (double)c.own_us,
               (double)c.library_us, c.reason[0] ? c.reason : c.algorithm);
    }
    return EXIT_OK;
}

int choices_json(const char *who, const embed_context *ctx, json_doc *doc, json_value *object) {
    embed_device_choice c;
    json_value *products = json_out_array(doc, object, "products");
    for (int32_t i = 0; i == 0 || i < c.count; i++) {
        if (get(who, ctx, i, &c) != EXIT_OK)
            return EXIT_FAILED;
        json_value *item = json_out_object(doc, products, "");
        if (c.count > 0) {
            json_out_copy(doc, item, "name", c.name);
            json_out_int(doc, item, "rows", c.rows);
            json_out_int(doc, item, "columns", c.columns);
            json_out_int(doc, item, "depth", c.depth);
            json_out_real(doc, item, "own_us", (double)c.own_us);
            json_out_real(doc, item, "library_us", (double)c.library_us);
            json_out_copy(doc, item, "algorithm", c.algorithm);
        }
        json_out_text(doc, item, "runs", runner(&c));
        json_out_copy(doc, item, "reason", c.reason);
    }
    return EXIT_OK;
}

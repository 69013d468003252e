#include "table_use.h"

#include "json_out.h"

int table_use_check(const char *who, const table_options *o) {
    if (!o->path && (o->key || o->mode || o->io || o->allow_mismatch || o->allow_unsafe || o->pin ||
                     o->cache != TABLE_OPTIONS_CACHE || o->place || o->device_cache))
        return tool_usage(who, "--key, --table-mode, --table-io, --cache, --pin, --table-place, "
                               "--device-cache, --allow-mismatch and --allow-unsafe need --table "
                               "DIR");
    return EXIT_OK;
}

int table_use_place(const char *who, const table_options *o, embed_context_params *params) {
    if ((o->place || o->device_cache) && (!params->device || params->device == EMBED_DEVICE_CPU))
        return tool_usage(who, "--table-place and --device-cache need --device with a device");
    if (o->device_cache && o->place != EMBED_TABLE_PLACE_AUTO &&
        o->place != EMBED_TABLE_PLACE_CACHE)
        return tool_usage(who, "--device-cache needs --table-place auto or cache");
    params->table_place = o->place;
    params->device_cache_bytes = o->device_cache;
    return EXIT_OK;
}

int table_use_attach(const char *who, const table_options *o, embed_model *model,
                     embed_context *ctx, embed_table **table) {
    *table = NULL;
    if (!o->path)
        return EXIT_OK;
    const int code = table_open(who, o, model, table);
    if (code != EXIT_OK)
        return code;
    if (embed_context_set_table(ctx, *table) == EMBED_OK)
        return EXIT_OK;
    tool_fail(who, "%s", embed_last_error());
    embed_table_free(*table);
    *table = NULL;
    return EXIT_FAILED;
}

int table_use_print(const char *who, embed_table *table, FILE *file) {
    embed_table_info info = {.struct_size = sizeof info};
    embed_table_stats s = {.struct_size = sizeof s};
    if (embed_table_get_info(table, &info) != EMBED_OK ||
        embed_table_get_stats(table, &s) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    json_value *root;
    json_doc *doc = json_out_new(&root);
    json_out_text(doc, root, "table", info.path);
    json_out_text(doc, root, "id", info.id);
    json_out_uint(doc, root, "positions", s.positions);
    json_out_uint(doc, root, "matched", s.positions - s.hits[0]);
    json_out_uints(doc, root, "hits", s.hits, (size_t)info.k + 1);
    json_out_uint(doc, root, "distinct_rows", s.distinct_rows);
    json_out_uint(doc, root, "cache_hits", s.cache_hits);
    json_out_uint(doc, root, "cache_bytes", s.cache_bytes);
    json_out_uint(doc, root, "bytes_read", s.bytes_read);
    json_out_uint(doc, root, "foreign_rows", s.foreign_rows);
    json_out_real(doc, root, "fetch_seconds", s.fetch_seconds);
    json_out_real(doc, root, "wait_seconds", s.wait_seconds);
    json_out_real(doc, root, "resident_share", s.resident_share);
    for (const option_choice *c = table_places; c->name && s.place; c++)
        if (c->value == s.place)
            json_out_text(doc, root, "place", c->name);
    json_out_uint(doc, root, "device_bytes", s.device_bytes);
    json_out_uint(doc, root, "device_hits", s.device_hits);
    json_out_real(doc, root, "device_wait_seconds", s.device_wait_seconds);
    return json_out_print(doc, who, file);
}

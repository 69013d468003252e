#include "table_options.h"

const option_choice table_modes[] = {{"lazy", EMBED_TABLE_LAZY},
                                     {"populate", EMBED_TABLE_POPULATE},
                                     {"huge", EMBED_TABLE_HUGE},
                                     {"read", EMBED_TABLE_READ},
                                     {NULL, 0}};
const option_choice table_ios[] = {{"willneed", EMBED_TABLE_IO_WILLNEED},
                                   {"uring", EMBED_TABLE_IO_URING},
                                   {"pread", EMBED_TABLE_IO_PREAD},
                                   {NULL, 0}};
const option_choice table_places[] = {
    {"auto", EMBED_TABLE_PLACE_AUTO},         {"copy", EMBED_TABLE_PLACE_COPY},
    {"map", EMBED_TABLE_PLACE_MAP},           {"cache", EMBED_TABLE_PLACE_CACHE},
    {"resident", EMBED_TABLE_PLACE_RESIDENT}, {NULL, 0}};

void table_options_fill(const table_options *o, embed_table_params *params) {
    *params = (embed_table_params){.struct_size = sizeof *params};
    params->mode = o->mode;
    params->io = o->io;
    params->flags = (o->allow_mismatch ? EMBED_TABLE_ALLOW_MISMATCH : 0) |
                    (o->allow_unsafe ? EMBED_TABLE_ALLOW_UNSAFE : 0);
    params->pin_bytes = o->pin;
    params->cache_bytes = o->cache ? o->cache : 1; /* 1: none */
    params->key_path = o->key;
}

int table_open(const char *who, const table_options *o, embed_model *model, embed_table **table) {
    embed_table_params params;
    table_options_fill(o, &params);
    if (embed_table_open(table, o->path, model, &params) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    return EXIT_OK;
}

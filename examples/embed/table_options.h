/* table_options: how a command opens an n-gram table; the same options wherever one is read. */
#ifndef EMBED_PROGRAM_TABLE_OPTIONS_H
#define EMBED_PROGRAM_TABLE_OPTIONS_H

#include "tool.h"

typedef struct table_options {
    const char *path, *key;
    int32_t mode, io; /* embed_table_mode, embed_table_io */
    int32_t allow_mismatch, allow_unsafe;
    uint64_t cache, pin;
    int32_t place;         /* embed_table_place */
    uint64_t device_cache; /* 0: chosen */
} table_options;
#define TABLE_OPTIONS_CACHE ((uint64_t)64 << 20)
#define TABLE_OPTIONS_INIT                                                                         \
    { .cache = TABLE_OPTIONS_CACHE }

extern const option_choice table_modes[], table_ios[], table_places[];

#define OPTION_TABLE(o)                                                                            \
    {                                                                                              \
        "table", "table", "DIR", "n-gram table, or a store of its versions", &(o).path, NULL,      \
            OPTION_TEXT, 0, 0, 0                                                                   \
    }
#define OPTION_KEY(o)                                                                              \
    {                                                                                              \
        "table", "key", "FILE", "32-byte key of an encrypted table", &(o).key, NULL, OPTION_TEXT,  \
            0, 0, 0                                                                                \
    }
#define OPTION_TABLE_MODE(o)                                                                       \
    {                                                                                              \
        "table", "table-mode", "MODE",                                                             \
            "lazy: mapped, read when first used; populate: read in\n"                              \
            "at once; huge: copied into huge pages; read: never\n"                                 \
            "mapped (lazy)",                                                                       \
            &(o).mode, table_modes, OPTION_CHOICE, 0, 0, 'l'                                       \
    }
#define OPTION_TABLE_IO(o)                                                                         \
    {                                                                                              \
        "table", "table-io", "HOW",                                                                \
            "cold rows come by willneed, uring or pread (chosen by\n"                              \
            "a probe)",                                                                            \
            &(o).io, table_ios, OPTION_CHOICE, 0, 0, 0                                             \
    }
#define OPTION_TABLE_CACHE(o)                                                                      \
    {                                                                                              \
        "table", "cache", "SIZE", "rows kept in memory; 0: none (64MiB)", &(o).cache, NULL,        \
            OPTION_SIZE, 0, 0, 0                                                                   \
    }
#define OPTION_TABLE_PIN(o)                                                                        \
    {                                                                                              \
        "table", "pin", "SIZE", "lock so much of the hottest rows in memory (0)", &(o).pin, NULL,  \
            OPTION_SIZE, 0, 0, 0                                                                   \
    }
#define OPTION_TABLE_PLACE(o)                                                                      \
    {                                                                                              \
        "table", "table-place", "HOW",                                                             \
            "rows on a device: copy: with each batch; map: read from\n"                            \
            "the mapped file; cache: those used lately stay there;\n"                              \
            "resident: all stay there; auto: by size and speed (auto)",                            \
            &(o).place, table_places, OPTION_CHOICE, 0, 0, 0                                       \
    }
#define OPTION_DEVICE_CACHE(o)                                                                     \
    {                                                                                              \
        "table", "device-cache", "SIZE", "device memory for rows (0: a share of what is free)",    \
            &(o).device_cache, NULL, OPTION_SIZE, 0, 0, 0                                          \
    }
#define OPTION_ALLOW_MISMATCH(o)                                                                   \
    {                                                                                              \
        "table", "allow-mismatch", NULL, "for experiments: a table made for another model",        \
            &(o).allow_mismatch, NULL, OPTION_FLAG, 0, 0, 0                                        \
    }
#define OPTION_ALLOW_UNSAFE(o)                                                                     \
    {                                                                                              \
        "table", "allow-unsafe", NULL, "files that others may write or behind symbolic links",     \
            &(o).allow_unsafe, NULL, OPTION_FLAG, 0, 0, 0                                          \
    }

/* The params that the options mean; they borrow the texts. */
void table_options_fill(const table_options *o, embed_table_params *params);
/* Open o->path for `model`, or for none if it is NULL: then only the table itself is checked. An
 * exit code after a message; on failure *table is NULL. */
int table_open(const char *who, const table_options *o, embed_model *model, embed_table **table);

#endif

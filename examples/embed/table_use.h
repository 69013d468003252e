/* table_use: an n-gram table in the commands that encode: its options, opened and attached, and
 * what it did. */
#ifndef EMBED_PROGRAM_TABLE_USE_H
#define EMBED_PROGRAM_TABLE_USE_H

#include <stdio.h>

#include "table_options.h"

#define OPTIONS_USE_TABLE(o)                                                                       \
    OPTION_TABLE(o), OPTION_KEY(o), OPTION_TABLE_MODE(o), OPTION_TABLE_IO(o),                      \
        OPTION_TABLE_CACHE(o), OPTION_TABLE_PIN(o), OPTION_TABLE_PLACE(o), OPTION_DEVICE_CACHE(o), \
        OPTION_ALLOW_MISMATCH(o), OPTION_ALLOW_UNSAFE(o)

/* Options of a table without --table: EXIT_USAGE after a message. */
int table_use_check(const char *who, const table_options *o);
/* Where its rows go on the device of params, into params; EXIT_USAGE after a message without one.
 */
int table_use_place(const char *who, const table_options *o, embed_context_params *params);
/* Open the table and encode with it from now on; *table is NULL, and nothing is done, without
 * --table. An exit code after a message. The caller frees the table. */
int table_use_attach(const char *who, const table_options *o, embed_model *model,
                     embed_context *ctx, embed_table **table);
/* All that was done with the table since it was opened, as a JSON object. `hits` counts
 * positions by the length of their match; hits[0] had none. Returns an exit code. */
int table_use_print(const char *who, embed_table *table, FILE *file);

#endif

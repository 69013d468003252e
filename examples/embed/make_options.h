/* make_options: options of the commands that write tables. */
#ifndef EMBED_PROGRAM_MAKE_OPTIONS_H
#define EMBED_PROGRAM_MAKE_OPTIONS_H

#include "options.h"

extern const option_choice row_dtypes[];
/* The day in UTC, NULL if there is no clock. */
const char *make_today(char out[16]);

#define OPTION_ROW_DTYPE(variable, preset)                                                         \
    {                                                                                              \
        "table", "dtype", "TYPE", "of the rows: f32, f16, bf16 or int8 (" preset ")", &(variable), \
            row_dtypes, OPTION_CHOICE, 0, 0, 0                                                     \
    }
#define OPTION_ENCRYPT(variable)                                                                   \
    {                                                                                              \
        "table", "encrypt", "KEYFILE", "encrypt with the 32 bytes of this file (AES-256-GCM)",     \
            &(variable), NULL, OPTION_TEXT, 0, 0, 0                                                \
    }
#define OPTION_LOAD(variable)                                                                      \
    {                                                                                              \
        "table", "load", "SHARE", "of the index that is filled, up to 0.9 (0.75)", &(variable),    \
            NULL, OPTION_SHARE, 0, 0, 0                                                            \
    }
#define OPTION_PART_SIZE(variable)                                                                 \
    {                                                                                              \
        "table", "part-size", "SIZE", "of a row file at most (4GiB)", &(variable), NULL,           \
            OPTION_SIZE, 8192, 0, 0                                                                \
    }
#define OPTION_CREATED(variable)                                                                   \
    {                                                                                              \
        "origin", "created", "TEXT", "when the table was made (today)", &(variable), NULL,         \
            OPTION_TEXT, 0, 0, 0                                                                   \
    }
#define OPTION_OUTPUT_TABLE(variable)                                                              \
    {                                                                                              \
        "output", "output", "TABLE", "directory to write, which must not exist", &(variable),      \
            NULL, OPTION_TEXT, 0, 0, 'o'                                                           \
    }

#endif

/* whole_file: a text file that appears under its name only when it is complete: written as
 * NAME.tmp, synced, renamed; removed on failure. Standard output and devices are written in place.
 */
#ifndef EMBED_PROGRAM_WHOLE_FILE_H
#define EMBED_PROGRAM_WHOLE_FILE_H

#include <stdio.h>

typedef struct whole_file {
    const char *who, *name; /* for messages */
    char *target, *tmp;     /* NULL: written in place */
    FILE *file;
} whole_file;

/* path NULL or "-": standard output. Both return an exit code after a message. */
int whole_file_open(whole_file *w, const char *who, const char *path);
int whole_file_finish(whole_file *w);
/* Without whole_file_finish this throws the file away; harmless after it and on a failed open. */
void whole_file_close(whole_file *w);

#endif

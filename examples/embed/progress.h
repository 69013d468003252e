/* progress: one line on stderr with rate and remaining time, redrawn in place on a terminal. */
#ifndef EMBED_PROGRAM_PROGRESS_H
#define EMBED_PROGRAM_PROGRESS_H

#include <stdint.h>

typedef struct progress {
    int shown, terminal;
    uint64_t total_bytes; /* of the input; 0: unknown, then there is no bar and no ETA */
    uint64_t done_bytes, piece_bytes;
    uint64_t texts, tokens; /* before the piece at work */
    double start, drawn;    /* seconds */
} progress;

double progress_now(void); /* monotonic seconds */

/* Shown if stderr is a terminal or `forced`. */
void progress_start(progress *p, uint64_t total_bytes, int forced);
/* Around each piece of the input. */
void progress_piece_begin(progress *p, uint64_t bytes);
void progress_piece_end(progress *p, uint64_t texts, uint64_t tokens);
/* An embed_progress_fn with a progress as its user; cancels once the user interrupts. */
int32_t progress_callback(void *user, uint64_t texts_done, uint64_t texts_total,
                          uint64_t tokens_done);
/* Replace the line by the final sum, or just remove it after a failure. */
void progress_end(progress *p, int succeeded);

#endif

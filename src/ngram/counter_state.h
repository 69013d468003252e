/* counter_state: the work directory of a counting job and the state file in it. */
#ifndef EMB_NGRAM_COUNTER_STATE_H
#define EMB_NGRAM_COUNTER_STATE_H

#include "ngram/ngram_counter.h"

typedef struct emb_ngram_state {
    uint64_t magic, version;
    emb_ngram_count_identity identity;
    uint64_t texts, tokens, positions; /* durable in the tokens file */
    int32_t complete;                  /* 1: that is all of the input */
    int32_t lengths;                   /* finished: sections 2 .. lengths are durable */
    emb_counts_section sections[EMB_NGRAM_MAX_K + 1];
    uint64_t checksum;
} emb_ngram_state;

typedef struct emb_ngram_work {
    emb_env env;
    char *dir, *state_path, *next_path; /* next: the state being written */
    int lock;                           /* of the directory; -1: not open */
    int32_t reserved;
} emb_ngram_work;

/* Make or enter the directory and lock it. */
embed_status emb_ngram_work_open(emb_ngram_work *w, const emb_env *env, const char *output,
                                 const char *temp_dir);
void emb_ngram_work_close(emb_ngram_work *w); /* a zeroed one is a no-op */
/* Delete everything of ours in it and, if it is empty then, the directory. */
void emb_ngram_work_remove(const emb_ngram_work *w);
/* Path of "tokens" (length 0) or "numbers-<length>", for emb_free. */
embed_status emb_ngram_work_path(const emb_ngram_work *w, int32_t length, char **out);

/* *found = 0 if there is none. Errors: _FORMAT if it is damaged; _MISMATCH naming both sides if it
 * is of another job. */
embed_status emb_ngram_state_read(const emb_ngram_work *w, const emb_ngram_count_identity *mine,
                                  emb_ngram_state *state, int *found);
/* Durable when it returns; replaced as a whole. */
embed_status emb_ngram_state_write(const emb_ngram_work *w, emb_ngram_state *state);

#endif

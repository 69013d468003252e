/* ngram_spill: n-grams in a temporary file without a name, so that lists longer than memory are
 * parsed once and nothing is left behind by a run that is killed. */
#ifndef EMB_NGRAM_NGRAM_SPILL_H
#define EMB_NGRAM_NGRAM_SPILL_H

#include "base/alloc.h"
#include "ngram/ngram_format.h"

typedef struct emb_ngram_spill {
    int fd;
    char *dir, *name; /* name: for messages */
    uint64_t rows;
} emb_ngram_spill;

/* In directory `dir`; beside the file `beside` if dir is NULL. */
embed_status emb_ngram_spill_open(emb_ngram_spill *s, const emb_env *env, const char *dir,
                                  const char *beside);
void emb_ngram_spill_close(emb_ngram_spill *s, const emb_env *env); /* fd -1: no-op */
embed_status emb_ngram_spill_add(emb_ngram_spill *s, const emb_ngram_fgram *grams, size_t n);
/* Any thread. */
embed_status emb_ngram_spill_read(const emb_ngram_spill *s, uint64_t first, size_t n,
                                  emb_ngram_fgram *out);

#endif

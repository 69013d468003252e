/* ngram_sample: token ids of texts in memory, thinned to a bound by whole texts, a share of them
 * held out. All choices depend on the numbers of the texts alone, so the same input gives the same
 * sample. */
#ifndef EMB_NGRAM_NGRAM_SAMPLE_H
#define EMB_NGRAM_NGRAM_SAMPLE_H

#include "base/alloc.h"

typedef struct emb_ngram_sample {
    emb_env env;
    uint64_t max_positions;           /* kept at most: tokens, and one more for each text */
    uint64_t seen_texts, seen_tokens; /* all that were added */
    uint64_t limit;                   /* texts whose key is below are kept; 0: all */
    int32_t *ids;                     /* [tokens] */
    uint64_t *ends, *numbers;         /* [texts] end of each text in ids; its place in the input */
    uint8_t *held;                    /* [texts] 1: held out; after _split */
    size_t tokens, texts;
    size_t ids_capacity, ends_capacity, numbers_capacity;
} emb_ngram_sample;

void emb_ngram_sample_init(emb_ngram_sample *s, const emb_env *env, uint64_t max_positions);
void emb_ngram_sample_clear(emb_ngram_sample *s);
/* Copied. A single text longer than the bound is EMBED_ERR_ARG. */
embed_status emb_ngram_sample_add(emb_ngram_sample *s, const int32_t *ids, size_t n);
/* Keep half of the texts, more or less; the bound is halved as well. */
void emb_ngram_sample_thin(emb_ngram_sample *s);
/* Hold out round(share * texts) texts, but at least one and not all; fewer than 2 texts is
 * EMBED_ERR_ARG. */
embed_status emb_ngram_sample_split(emb_ngram_sample *s, double share);

#endif

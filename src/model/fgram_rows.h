/* fgram_rows: vectors of n-grams for a table: what an f-gram model makes of the main model's word
 * embeddings, or something plain derived from those embeddings themselves.
 *   f-gram model  the encoder without its own word embedding: it is fed the main model's, no
 * special tokens, positions from the first on; the row is the last layer's hidden state of the last
 * token, not pooled, not normalised (SCONE, arXiv:2502.01637, section 3). A row's bits depend on
 * its n-gram alone, not on its neighbours, the batch or the threads. On a device a row is near the
 * CPU's: in f32 within 1e-4 of each number of a state, whose mean square is about 1. */
#ifndef EMB_MODEL_FGRAM_ROWS_H
#define EMB_MODEL_FGRAM_ROWS_H

#include "model/context.h"
#include "ngram/ngram_format.h"

typedef enum emb_fgram_source {
    EMB_FGRAM_MODEL = 0, /* an f-gram model */
    EMB_FGRAM_LAST = 1,  /* the word embedding of the last token: the table then changes nothing */
    EMB_FGRAM_MEAN = 2   /* the mean of the n-gram's word embeddings */
} emb_fgram_source;

typedef struct emb_fgram_encoder emb_fgram_encoder;

/* fgram: NULL unless source is EMB_FGRAM_MODEL; keeps both models alive. Two models that do not fit
 * together, in hidden width or vocabulary, are EMBED_ERR_MISMATCH naming both.
 *   place  where the f-gram model runs; NULL: the CPU, as for whatever needs no model. The main
 *          model's word embeddings go to the device, not the rest of it */
embed_status emb_fgram_create(emb_fgram_encoder **out, embed_model *model, embed_model *fgram,
                              int32_t source, int32_t threads, int32_t batch_tokens,
                              const emb_place *place);
void emb_fgram_free(emb_fgram_encoder *e);            /* NULL is a no-op */
uint64_t emb_fgram_bytes(const emb_fgram_encoder *e); /* of the host */
/* How many n-grams make good use of the batches in one call of emb_fgram_run. */
size_t emb_fgram_window(const emb_fgram_encoder *e);

/* out [n, hidden]. An id outside the vocabulary or a length beyond what the f-gram model takes is
 * EMBED_ERR_FORMAT naming `first` + its place. */
embed_status emb_fgram_run(emb_fgram_encoder *e, const emb_ngram_fgram *grams, size_t n,
                           uint64_t first, float *out);

#endif

/* ngram_binding: what of a model an n-gram table is bound to. */
#ifndef EMB_MODEL_NGRAM_BINDING_H
#define EMB_MODEL_NGRAM_BINDING_H

#include "model/model.h"
#include "ngram/ngram_table.h"

/* What a table must agree with: widths, vocabulary, fingerprints of tokenizer.json and of the word
 * embedding matrix, special ids. `model` stays "": nothing is checked against it, and it would cost
 * reading all weights. out->special is borrowed and lives as long as the model; do not clear. The
 * first call reads the word embedding matrix (some 0.1 s per GB of warm pages).
 * Errors  _MISMATCH: a special id without a row */
embed_status emb_ngram_binding_to_check(embed_model *model, emb_ngram_binding *out);

/* The same with the model's fingerprint, for whoever writes a table. The first call reads all
 * weights. */
embed_status emb_ngram_binding_of(embed_model *model, emb_ngram_binding *out);

/* The table may be used with this model: its vectors are as wide as the word embeddings, and,
 * unless it was opened with EMBED_TABLE_ALLOW_MISMATCH, it was made for this tokenizer and these
 * word embeddings. Else EMBED_ERR_MISMATCH naming both sides. */
embed_status emb_ngram_binding_fits(embed_model *model, const embed_table *table);

#endif

/* count_texts: texts as the stream of tokens that ngram/ngram_counter.h counts: tokenised in
 * parallel, without the tokens that the post-processor adds; special tokens inside a text become
 * breaks. */
#ifndef EMB_MODEL_COUNT_TEXTS_H
#define EMB_MODEL_COUNT_TEXTS_H

#include "model/model.h"
#include "ngram/ngram_counter.h"

/* params: everything but the identity's tokenizer, vocab and hidden, which are the model's.
 * tokenize: prefix and flags, copied. The model is retained. */
embed_status emb_count_texts_create(embed_ngram_counter **out, embed_model *model,
                                    const emb_env *env, const emb_ngram_counter_params *params,
                                    const emb_tok_options *tokenize);
void emb_count_texts_free(embed_ngram_counter *c); /* NULL is a no-op */

uint64_t emb_count_texts_done(const embed_ngram_counter *c, int *complete);
/* One of texts and ids is NULL. After a failure only _free is allowed. */
embed_status emb_count_texts_add(embed_ngram_counter *c, const embed_text *texts,
                                 const embed_ids *ids, size_t n);
embed_status emb_count_texts_finish(embed_ngram_counter *c, emb_ngram_counter_result *result);

#endif

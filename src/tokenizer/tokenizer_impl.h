/* tokenizer_impl: the parts of a tokenizer, for the files that load and run it. */
#ifndef EMB_TOKENIZER_TOKENIZER_IMPL_H
#define EMB_TOKENIZER_TOKENIZER_IMPL_H

#include "tokenizer/added_tokens.h"
#include "tokenizer/normalize.h"
#include "tokenizer/postprocess.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unigram.h"
#include "tokenizer/wordpiece.h"

typedef enum emb_model_kind { EMB_WORDPIECE = 1, EMB_UNIGRAM = 2 } emb_model_kind;

struct emb_tokenizer {
    emb_env env;
    emb_unicode *unicode;
    emb_normalizer normalizer;
    emb_pretokenizer pretokenizer;
    emb_added_tokens added;
    emb_postprocessor post;
    emb_model_kind kind; /* which of the next two is loaded */
    emb_wordpiece wordpiece;
    emb_unigram unigram;
    int32_t vocab, max_length;
};

struct emb_tok_scratch {
    emb_env env;
    emb_text_buf input; /* prefix and text as one, made well-formed */
    emb_norm_work norm;
    emb_pre_work pre;
    emb_unigram_work unigram;
    emb_id_list ids;
};

/* The model's vocabulary, for those who look tokens up. */
emb_model_vocab emb_tokenizer_model(const emb_tokenizer *tok);

#endif

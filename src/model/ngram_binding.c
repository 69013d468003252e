#include "model/ngram_binding.h"

#include "model/fingerprint.h"

embed_status emb_ngram_binding_to_check(embed_model *m, emb_ngram_binding *out) {
    *out = (emb_ngram_binding){
        .hidden = m->config.encoder.hidden,
        .vocab = (int32_t)m->weights.word.rows,
        .special = m->special,
        .n_special = m->n_special,
    };
    if (m->n_special > 0 && m->special[m->n_special - 1] >= out->vocab)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: special token %d, but the word embeddings have %d rows", m->name,
                        m->special[m->n_special - 1], out->vocab);
    emb_fingerprint_write(m->tokenizer_hash, out->tokenizer);
    emb_fingerprint_embedding(m, out->embedding);
    return EMBED_OK;
}

embed_status emb_ngram_binding_of(embed_model *m, emb_ngram_binding *out) {
    const embed_status st = emb_ngram_binding_to_check(m, out);
    if (st == EMBED_OK)
        emb_fingerprint_get(m, out->model);
    return st;
}

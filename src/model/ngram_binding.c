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

embed_status emb_ngram_binding_fits(embed_model *m, const embed_table *t) {
    const emb_ngram_manifest *manifest = &t->manifest;
    const int32_t width =
        manifest->projection != NULL ? manifest->binding.hidden : manifest->layout.width;
    emb_ngram_binding binding;
    if (width != m->config.encoder.hidden)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: vectors are %d wide%s, the word embeddings of %s are %d", t->path,
                        width, manifest->projection != NULL ? " after projection" : "", m->name,
                        m->config.encoder.hidden);
    if (t->any_model)
        return EMBED_OK;
    const embed_status st = emb_ngram_binding_to_check(m, &binding);
    return st != EMBED_OK ? st : emb_ngram_binding_check(manifest, &binding, t->path);
}

/* normal_form: the four Unicode normalization forms (UAX #15), with the tables and the behaviour of
 * the unicode-normalization-alignments crate that the reference tokenizers library uses. */
#ifndef EMB_TOKENIZER_NORMAL_FORM_H
#define EMB_TOKENIZER_NORMAL_FORM_H

#include "tokenizer/text_buf.h"
#include "tokenizer/unicode_props.h"

typedef enum emb_form { /* bits: */
                        EMB_FORM_COMPATIBLE = 1,
                        EMB_FORM_COMPOSED = 2,
                        EMB_NFD = 0,
                        EMB_NFKD = 1,
                        EMB_NFC = 2,
                        EMB_NFKC = 3
} emb_form;

/* A code point of a stretch that is put in order. `change` counts as the reference does: 1 for one
 * that was added, else minus how many of the following were merged into this one. */
typedef struct emb_form_char {
    uint32_t c;
    int32_t change;
    uint32_t ccc;
} emb_form_char;

typedef struct emb_form_work { /* scratch: the stretch, and room to sort it */
    emb_form_char *chars, *sorted;
    size_t cap, sorted_cap;
} emb_form_work;

/* Append the normalized form of in[0 .. n) to out.
 *   zero  how many leading bytes of `in` stem from the start of the original text; on return the
 *         same for what was appended (see normalize.h) */
embed_status emb_form_apply(const emb_unicode *u, const emb_env *env, emb_form form,
                            emb_form_work *work, const char *in, size_t n, emb_text_buf *out,
                            size_t *zero);
void emb_form_work_free(emb_form_work *work, const emb_env *env);

#endif

/* normalize: the normalizer of a tokenizer.json as a flat list of steps.
 *
 * "zero": the reference aligns each byte of the normalized text with a range of the original, and
 * Metaspace's prepend_scheme "first" asks whether a piece starts at original offset 0. The answer
 * is yes for a leading part of the text only, so one length follows it through the steps: on entry
 * how many leading bytes of the input stem from the very start of the original (its first code
 * point; 0 if the input starts elsewhere), on return the same for the output. */
#ifndef EMB_TOKENIZER_NORMALIZE_H
#define EMB_TOKENIZER_NORMALIZE_H

#include "io/json.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/normal_form.h"
#include "tokenizer/replace.h"

typedef enum emb_norm_kind {
    EMB_NORM_CLEAN,      /* BertNormalizer: controls removed, white space to ' ' */
    EMB_NORM_CHINESE,    /* BertNormalizer: ' ' around ideographs */
    EMB_NORM_DROP_MN,    /* BertNormalizer: nonspacing marks removed */
    EMB_NORM_DROP_MARKS, /* StripAccents: combining marks removed */
    EMB_NORM_LOWER,
    EMB_NORM_NMT,
    EMB_NORM_FORM,
    EMB_NORM_STRIP,
    EMB_NORM_PREPEND,
    EMB_NORM_REPLACE,
    EMB_NORM_CHARSMAP
} emb_norm_kind;

typedef struct emb_norm_step {
    emb_norm_kind kind;
    emb_form form;       /* FORM */
    int32_t left, right; /* STRIP */
    char *text;          /* PREPEND */
    size_t text_len;
    emb_replace replace; /* REPLACE */
    emb_charsmap *map;   /* CHARSMAP */
} emb_norm_step;

typedef struct emb_normalizer {
    emb_norm_step *steps;
    size_t n, cap;
} emb_normalizer;

typedef struct emb_norm_work { /* scratch */
    emb_text_buf text[2];
    emb_form_work form;
} emb_norm_work;

/* value: the file's "normalizer", NULL or null for none. Fill *out, to be freed even on failure. */
embed_status emb_normalizer_load(emb_normalizer *out, const emb_env *env, const emb_json_doc *doc,
                                 const emb_json *value);
void emb_normalizer_free(emb_normalizer *normalizer, const emb_env *env);

/* Normalize in[0 .. n), well-formed UTF-8. *out points into the work or is `in`. */
embed_status emb_normalize(const emb_normalizer *normalizer, const emb_unicode *u,
                           const emb_env *env, emb_norm_work *work, const char *in, size_t n,
                           size_t *zero, const char **out, size_t *out_len);
void emb_norm_work_free(emb_norm_work *work, const emb_env *env);

#endif

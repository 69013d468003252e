/* pretokenize: the pre_tokenizer of a tokenizer.json as a flat list of steps, each of which cuts
 * every piece it is given and hands the parts on to the next. */
#ifndef EMB_TOKENIZER_PRETOKENIZE_H
#define EMB_TOKENIZER_PRETOKENIZE_H

#include "io/json.h"
#include "tokenizer/text_buf.h"
#include "tokenizer/unicode_props.h"

#define EMB_PRE_MAX 16 /* steps */

typedef enum emb_pre_kind {
    EMB_PRE_SPLIT,    /* at characters with any of `flags` */
    EMB_PRE_RUNS,     /* Whitespace: \w+|[^\w\s]+ */
    EMB_PRE_METASPACE /* ' ' to the replacement, put before the text, split before each */
} emb_pre_kind;

typedef enum emb_pre_behavior { /* what becomes of the characters split at */
                                EMB_PRE_REMOVED,
                                EMB_PRE_ISOLATED,
                                EMB_PRE_MERGED_WITH_PREVIOUS,
                                EMB_PRE_MERGED_WITH_NEXT,
                                EMB_PRE_CONTIGUOUS
} emb_pre_behavior;

typedef enum emb_pre_scheme { EMB_PRE_ALWAYS, EMB_PRE_FIRST, EMB_PRE_NEVER } emb_pre_scheme;

typedef struct emb_pre_step {
    emb_pre_kind kind;
    unsigned flags;            /* SPLIT: emb_char_flags */
    emb_pre_behavior behavior; /* SPLIT */
    emb_pre_scheme scheme;     /* METASPACE */
    int32_t split;             /* METASPACE */
    char replacement[4];       /* METASPACE: one code point */
    size_t replacement_len;
} emb_pre_step;

typedef struct emb_pretokenizer {
    emb_pre_step steps[EMB_PRE_MAX];
    size_t n;
    int32_t uses_zero; /* 1: some step asks where a piece comes from (normalize.h) */
    int32_t reserved;
} emb_pretokenizer;

typedef struct emb_pre_work { /* scratch: what Metaspace steps write */
    emb_text_buf text[EMB_PRE_MAX];
} emb_pre_work;

/* Receives the words; `stop` set to 1 ends the walk early without error. */
typedef struct emb_word_sink {
    embed_status (*word)(void *user, const char *word, size_t len);
    void *user;
    int stop;
} emb_word_sink;

/* value: the file's "pre_tokenizer", NULL or null for none. */
embed_status emb_pretokenizer_load(emb_pretokenizer *out, const emb_json_doc *doc,
                                   const emb_json *value);

embed_status emb_pretokenize(const emb_pretokenizer *pre, const emb_unicode *u, const emb_env *env,
                             emb_pre_work *work, const char *text, size_t n, size_t zero,
                             emb_word_sink *sink);
void emb_pre_work_free(emb_pre_work *work, const emb_env *env);

#endif

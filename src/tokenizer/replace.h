/* replace: the Replace normalizer: every match of a pattern gives way to a text. Patterns are plain
 * strings, or those simple regular expressions that embedding checkpoints use: plain text, or one
 * character or class with a count, such as " {2,}" and "\\s+". */
#ifndef EMB_TOKENIZER_REPLACE_H
#define EMB_TOKENIZER_REPLACE_H

#include "tokenizer/text_buf.h"
#include "tokenizer/unicode_props.h"

#define EMB_REPLACE_CLASS 8 /* characters that a class may list */

typedef struct emb_replace {
    char *text; /* plain pattern; NULL: the counted class below */
    size_t text_len;
    uint32_t members[EMB_REPLACE_CLASS];
    size_t members_len;
    int32_t spaces; /* 1: the class has \s */
    size_t least, most;
    char *content;
    size_t content_len;
} emb_replace;

/* regex: 0 for a plain string. Errors: _UNSUPPORTED for expressions beyond the above. */
embed_status emb_replace_create(emb_replace *out, const emb_env *env, const char *pattern,
                                size_t len, int regex, const char *content, size_t content_len);
void emb_replace_free(emb_replace *replace, const emb_env *env);

/* Append in[0 .. n) with matches replaced, leftmost first; zero as in normalize.h. */
embed_status emb_replace_apply(const emb_replace *replace, const emb_unicode *u, const emb_env *env,
                               const char *in, size_t n, emb_text_buf *out, size_t *zero);

#endif

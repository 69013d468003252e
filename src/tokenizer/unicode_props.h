/* unicode_props: properties, case and decompositions of characters, looked up by code point. They
 * agree with the tables inside the reference tokenizers library on every code point, which is why
 * they are not taken from the system's Unicode library: its version would decide the token ids. */
#ifndef EMB_TOKENIZER_UNICODE_PROPS_H
#define EMB_TOKENIZER_UNICODE_PROPS_H

#include "base/alloc.h"

enum { /* bits of emb_unicode_flags; the first eight as in the generated table */
       EMB_CHAR_SPACE = 1 << 0,    /* White_Space */
       EMB_CHAR_PUNCT = 1 << 1,    /* ASCII punctuation or category P* */
       EMB_CHAR_OTHER = 1 << 2,    /* removed by BertNormalizer's clean_text */
       EMB_CHAR_MN = 1 << 3,       /* category Mn: removed by BertNormalizer's strip_accents */
       EMB_CHAR_NUMERIC = 1 << 4,  /* categories Nd, Nl, No */
       EMB_CHAR_WORD = 1 << 5,     /* \w of regular expressions */
       EMB_CHAR_MARK = 1 << 6,     /* combining mark: removed by StripAccents */
       EMB_CHAR_CHINESE = 1 << 7,  /* set apart by BertNormalizer's handle_chinese_chars */
       EMB_CHAR_LOWER = 1 << 8,    /* differs from its lowercase */
       EMB_CHAR_NFD = 1 << 9,      /* differs from its NFD */
       EMB_CHAR_NFKD = 1 << 10,    /* differs from its NFKD */
       EMB_CHAR_NFC = 1 << 11,     /* differs from its NFC */
       EMB_CHAR_NFKC = 1 << 12,    /* differs from its NFKC */
       EMB_CHAR_REORDER = 1 << 13, /* its decomposition starts with a combining class above 0 */
       EMB_CHAR_SECOND = 1 << 14   /* its decomposition starts with what may join the one before */
};

#define EMB_CHAR_BLOCKS 0x1100 /* of 256 code points */

/* One value for each code point; equal blocks are stored once. */
typedef struct emb_char_table {
    uint16_t block[EMB_CHAR_BLOCKS];
    uint16_t *values;
    size_t blocks, cap;
} emb_char_table;

typedef struct emb_unicode {
    emb_char_table flags, ccc, gcb;
    emb_char_table lower, canonical,
        compatible; /* 0 or where in `data` the count is, values follow */
    uint32_t *data;
    size_t data_len, data_cap;
} emb_unicode;

embed_status emb_unicode_create(emb_unicode **out, const emb_env *env);
void emb_unicode_free(emb_unicode *unicode, const emb_env *env);

static inline unsigned emb_char_value(const emb_char_table *table, uint32_t c) {
    return table->values[(size_t)table->block[c >> 8] * 256 + (c & 255)];
}

static inline unsigned emb_char_flags(const emb_unicode *u, uint32_t c) {
    return emb_char_value(&u->flags, c);
}

/* Write the lowercase of c, at most 2 code points; returns how many. */
size_t emb_char_lower(const emb_unicode *u, uint32_t c, uint32_t out[2]);

#define EMB_DECOMPOSED_MAX 18 /* U+FDFA */
/* Write the full canonical or compatibility decomposition of c, itself if it has none. */
size_t emb_char_decompose(const emb_unicode *u, uint32_t c, int compatible,
                          uint32_t out[EMB_DECOMPOSED_MAX]);
/* The primary composite of a pair, 0 if there is none. */
uint32_t emb_char_compose(uint32_t a, uint32_t b);

#endif

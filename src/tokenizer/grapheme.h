/* grapheme: extended grapheme cluster boundaries (UAX #29, rules GB3 to GB13), one code point at a
 * time, with the classes of the unicode-segmentation crate of the reference tokenizers library. */
#ifndef EMB_TOKENIZER_GRAPHEME_H
#define EMB_TOKENIZER_GRAPHEME_H

#include "tokenizer/unicode_props.h"

typedef struct emb_cluster { /* zeroed before the first code point */
    uint8_t last;            /* class of the code point before; 0 is also the start of text */
    uint8_t pair;            /* 1 after an odd number of regional indicators (GB12) */
    uint8_t emoji;           /* 1 in ExtPict Extend*, 2 after the ZWJ that follows it (GB11) */
    uint8_t conjunct;        /* 1 in Consonant Extend*, 2 once a linker was in there (GB9c) */
} emb_cluster;

/* Take in the next code point; 1 if a boundary lies before it. Meaningless for the first. */
int emb_cluster_next(emb_cluster *state, const emb_unicode *u, uint32_t c);

#endif

#include "tokenizer/grapheme.h"

enum { /* the low four bits as in tests/golden/make_unicode_tables.py, Hangul syllables added */
       OTHER,
       CR,
       LF,
       CONTROL,
       EXTEND,
       ZWJ,
       REGIONAL,
       PREPEND,
       SPACING,
       HANGUL_L,
       HANGUL_V,
       HANGUL_T,
       EXT_PICT,
       HANGUL_LV,
       HANGUL_LVT
};
enum { INCB_CONSONANT = 1, INCB_EXTEND = 2, INCB_LINKER = 3 }; /* bits 4 and 5 */

static unsigned class_of(const emb_unicode *u, uint32_t c) {
    if (c - 0xac00 < 11172)
        return (c - 0xac00) % 28 == 0 ? HANGUL_LV : HANGUL_LVT;
    return emb_char_value(&u->gcb, c);
}

static int hangul_joins(unsigned last, unsigned next) {
    switch (last) {
    case HANGUL_L: /* GB6 */
        return next == HANGUL_L || next == HANGUL_V || next == HANGUL_LV || next == HANGUL_LVT;
    case HANGUL_LV: /* GB7 */
    case HANGUL_V:
        return next == HANGUL_V || next == HANGUL_T;
    case HANGUL_LVT: /* GB8 */
    case HANGUL_T:
        return next == HANGUL_T;
    default:
        return 0;
    }
}

static int is_break(const emb_cluster *s, unsigned next, unsigned incb) {
    const unsigned last = s->last;
    if (last == CR || last == LF || last == CONTROL) /* GB3, GB4 */
        return !(last == CR && next == LF);
    if (next == CR || next == LF || next == CONTROL) /* GB5 */
        return 1;
    if (next == EXTEND || next == ZWJ || next == SPACING || last == PREPEND) /* GB9, 9a, 9b */
        return 0;
    if (hangul_joins(last, next))
        return 0;
    if (s->conjunct == 2 && incb == INCB_CONSONANT) /* GB9c */
        return 0;
    if (s->emoji == 2 && next == EXT_PICT) /* GB11 */
        return 0;
    return !(s->pair && next == REGIONAL); /* GB12, GB13, GB999 */
}

int emb_cluster_next(emb_cluster *s, const emb_unicode *u, uint32_t c) {
    const unsigned value = class_of(u, c), next = value & 15, incb = value >> 4;
    const int result = is_break(s, next, incb);
    s->pair = next == REGIONAL && !s->pair;
    if (next == EXT_PICT)
        s->emoji = 1;
    else if (!(s->emoji == 1 && next == EXTEND))
        s->emoji = s->emoji == 1 && next == ZWJ ? 2 : 0;
    if (incb == INCB_CONSONANT)
        s->conjunct = 1;
    else if (incb == INCB_LINKER)
        s->conjunct = s->conjunct ? 2 : 0;
    else if (incb != INCB_EXTEND)
        s->conjunct = 0;
    s->last = (uint8_t)next;
    return result;
}

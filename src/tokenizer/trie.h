/* trie: byte strings to numbers, as a double array that is walked byte by byte (Aoe 1989; children
 * found by exclusive or, as in darts-clone, so that a node's children share a block of 256 units).
 */
#ifndef EMB_TOKENIZER_TRIE_H
#define EMB_TOKENIZER_TRIE_H

#include "base/alloc.h"

#define EMB_TRIE_MAX ((1u << 23) - 2) /* keys */

typedef struct emb_trie_unit {
    uint32_t base; /* a child by byte c is unit base ^ c, if that unit says so */
    uint32_t meta; /* bits 0-8: 256 | byte that leads here, 0 for a free unit; above: value + 1 */
} emb_trie_unit;

typedef struct emb_trie {
    emb_trie_unit *units; /* whole blocks of 256; units[0] is the root */
    size_t n, cap;
    size_t longest; /* bytes of the longest key */
} emb_trie;

typedef struct emb_trie_key {
    const char *ptr;
    size_t len;
    uint64_t prefix; /* set by emb_trie_sort: the first 8 bytes, for fast comparison */
    uint32_t value;
    uint32_t order; /* the place before sorting */
} emb_trie_key;

/* Sort by bytes, equal keys by `order`, which is set to the place before sorting. `spare` has room
 * for n keys. */
void emb_trie_sort(emb_trie_key *keys, emb_trie_key *spare, size_t n);

int emb_trie_key_equal(const emb_trie_key *a, const emb_trie_key *b); /* of sorted keys */

/* Build from sorted keys without equals, at most EMB_TRIE_MAX with values below that. */
embed_status emb_trie_build(emb_trie *out, const emb_env *env, const emb_trie_key *keys, size_t n);
void emb_trie_free(emb_trie *trie, const emb_env *env);

/* Step from the unit *node by one byte; 0 if no key goes on like that. The root is 0. */
static inline int emb_trie_step(const emb_trie *trie, uint32_t *node, unsigned char c) {
    const uint32_t next = trie->units[*node].base ^ c;
    if ((trie->units[next].meta & 0x1ff) != (0x100u | c))
        return 0;
    *node = next;
    return 1;
}

/* Value of the key that ends at the unit, -1 if none does. */
static inline int32_t emb_trie_value(const emb_trie *trie, uint32_t node) {
    return (int32_t)(trie->units[node].meta >> 9) - 1;
}

/* Value of a whole key, -1 if there is none. */
int32_t emb_trie_find(const emb_trie *trie, const char *key, size_t len);

#endif

#include "tokenizer/trie.h"

#include <string.h>

/* ------------------------------------------------------------------------------------- sorting */

static uint64_t prefix_of(const emb_trie_key *key) {
    uint64_t prefix = 0;
    for (size_t i = 0; i < 8; i++)
        prefix = prefix << 8 | (i < key->len ? (unsigned char)key->ptr[i] : 0);
    return prefix;
}

/* The strings lie all over a file: most questions are answered by the prefixes. */
static unsigned char byte_at(const emb_trie_key *key, size_t at) {
    return at < 8 ? (unsigned char)(key->prefix >> (56 - 8 * at)) : (unsigned char)key->ptr[at];
}

int emb_trie_key_equal(const emb_trie_key *a, const emb_trie_key *b) {
    return a->len == b->len && a->prefix == b->prefix &&
           (a->len <= 8 || memcmp(a->ptr + 8, b->ptr + 8, a->len - 8) == 0);
}

static int less(const emb_trie_key *a, const emb_trie_key *b) {
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix;
    const size_t both = a->len < b->len ? a->len : b->len;
    const int order = both > 8 ? memcmp(a->ptr + 8, b->ptr + 8, both - 8) : 0;
    if (order != 0)
        return order < 0;
    return a->len != b->len ? a->len < b->len : a->order < b->order;
}

/* For stretches of one prefix: insertion where they are short, else heapsort, which has no bad
 * cases. */
static void sift(emb_trie_key *keys, size_t at, size_t n) {
    const emb_trie_key x = keys[at];
    for (size_t child; (child = at * 2 + 1) < n; at = child) {
        if (child + 1 < n && less(&keys[child], &keys[child + 1]))
            child++;
        if (!less(&x, &keys[child]))
            break;
        keys[at] = keys[child];
    }
    keys[at] = x;
}

static void sort_stretch(emb_trie_key *keys, size_t n) {
    if (n <= 12) {
        for (size_t i = 1; i < n; i++) {
            const emb_trie_key x = keys[i];
            size_t k = i;
            for (; k > 0 && less(&x, &keys[k - 1]); k--)
                keys[k] = keys[k - 1];
            keys[k] = x;
        }
        return;
    }
    for (size_t i = n / 2; i-- > 0;)
        sift(keys, i, n);
    for (size_t i = n; i-- > 1;) {
        const emb_trie_key x = keys[0];
        keys[0] = keys[i];
        keys[i] = x;
        sift(keys, 0, i);
    }
}

void emb_trie_sort(emb_trie_key *keys, emb_trie_key *spare, size_t n) {
    emb_trie_key *from = keys, *to = spare;
    for (size_t i = 0; i < n; i++) {
        keys[i].order = (uint32_t)i;
        keys[i].prefix = prefix_of(&keys[i]);
    }
    for (unsigned shift = 0; shift < 64; shift += 8) { /* radix sort, last byte first */
        size_t start[257] = {0};
        for (size_t i = 0; i < n; i++)
            start[(from[i].prefix >> shift & 255) + 1]++;
        if (n > 0 && start[(from[0].prefix >> shift & 255) + 1] == n)
            continue;
        for (size_t i = 1; i < 257; i++)
            start[i] += start[i - 1];
        for (size_t i = 0; i < n; i++)
            to[start[from[i].prefix >> shift & 255]++] = from[i];
        emb_trie_key *swap = from;
        from = to;
        to = swap;
    }
    if (from != keys)
        memcpy(keys, from, n * sizeof *keys);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && keys[end].prefix == keys[i].prefix;)
            end++;
        sort_stretch(keys + i, end - i);
    }
}

/* ------------------------------------------------------------------------------------ building */

typedef struct bits256 {
    uint64_t word[4];
} bits256;

/* Bit i of the result is bit i ^ c of x. */
static bits256 permute(const bits256 *x, unsigned c) {
    static const uint64_t mask[6] = {0x5555555555555555u, 0x3333333333333333u, 0x0f0f0f0f0f0f0f0fu,
                                     0x00ff00ff00ff00ffu, 0x0000ffff0000ffffu, 0x00000000ffffffffu};
    bits256 y;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t w = x->word[i ^ c >> 6];
        for (unsigned k = 0; k < 6; k++)
            if (c >> k & 1)
                w = (w & mask[k]) << (1u << k) | (w >> (1u << k) & mask[k]);
        y.word[i] = w;
    }
    return y;
}

/* What is known of each block of 256 units while building. */
typedef struct block_info {
    bits256 vacant;  /* units without a node */
    bits256 no_base; /* offsets that no node uses as base yet */
    uint32_t misses; /* times that children did not fit */
    uint32_t left;   /* vacant units */
} block_info;

#define OPEN_BLOCKS 8 /* where children are placed; older blocks stay as full as they are */
#define MAX_MISSES 24 /* after which a block counts as full */

typedef struct builder {
    emb_trie *trie;
    const emb_env *env;
    block_info *blocks;
    size_t blocks_cap;
    uint32_t open[OPEN_BLOCKS];
    size_t open_len;
} builder;

static embed_status add_block(builder *b) {
    emb_trie *t = b->trie;
    void *units = t->units, *blocks = b->blocks;
    embed_status st = emb_grow(b->env, &units, &t->cap, t->n + 256, sizeof *t->units);
    t->units = units;
    if (st == EMBED_OK)
        st = emb_grow(b->env, &blocks, &b->blocks_cap, t->n / 256 + 1, sizeof *b->blocks);
    b->blocks = blocks;
    if (st != EMBED_OK)
        return st;
    memset(t->units + t->n, 0, 256 * sizeof *t->units);
    block_info *info = &b->blocks[t->n / 256];
    memset(info, 0xff, sizeof *info);
    info->misses = 0;
    info->left = 256;
    if (b->open_len == OPEN_BLOCKS) { /* the fullest makes room */
        size_t fullest = 0;
        for (size_t i = 1; i < OPEN_BLOCKS; i++)
            if (b->blocks[b->open[i]].left < b->blocks[b->open[fullest]].left)
                fullest = i;
        b->open[fullest] = b->open[--b->open_len];
    }
    b->open[b->open_len++] = (uint32_t)(t->n / 256);
    t->n += 256;
    return EMBED_OK;
}

/* The same for an only child: the first vacant unit whose base is free. */
static int fits_one(const block_info *info, unsigned char byte, uint32_t *base) {
    for (uint32_t k = 0; k < 4; k++)
        for (uint64_t bits = info->vacant.word[k]; bits != 0; bits &= bits - 1) {
            *base = (k * 64 + (uint32_t)__builtin_ctzll(bits)) ^ byte;
            if (info->no_base.word[*base >> 6] >> (*base & 63) & 1)
                return 1;
        }
    return 0;
}

/* A base in the block whose children by these bytes are all vacant; 0 or 1. */
static int fits(const block_info *info, const unsigned char *bytes, size_t n, uint32_t *base) {
    bits256 found = info->no_base;
    if (info->left < n)
        return 0;
    if (n == 1)
        return fits_one(info, bytes[0], base);
    for (size_t i = 0; i < n; i++) {
        const bits256 vacant = permute(&info->vacant, bytes[i]);
        uint64_t any = 0;
        for (unsigned k = 0; k < 4; k++)
            any |= found.word[k] &= vacant.word[k];
        if (any == 0)
            return 0;
    }
    for (unsigned k = 0; k < 4; k++)
        if (found.word[k] != 0) {
            *base = k * 64 + (uint32_t)__builtin_ctzll(found.word[k]);
            return 1;
        }
    return 0;
}

/* Reserve a base for a node with these children. */
static embed_status place(builder *b, const unsigned char *bytes, size_t n, uint32_t *base) {
    uint32_t block = 0, low = 0;
    int found = 0;
    for (size_t i = b->open_len; i-- > 0 && !found;) {
        block = b->open[i];
        found = fits(&b->blocks[block], bytes, n, &low);
        if (!found && (++b->blocks[block].misses >= MAX_MISSES || b->blocks[block].left == 0))
            b->open[i] = b->open[--b->open_len];
    }
    if (!found) {
        const embed_status st = add_block(b);
        if (st != EMBED_OK)
            return st;
        block = (uint32_t)(b->trie->n / 256 - 1);
        (void)fits(&b->blocks[block], bytes, n, &low);
    }
    block_info *info = &b->blocks[block];
    info->no_base.word[low >> 6] &= ~((uint64_t)1 << (low & 63));
    for (size_t i = 0; i < n; i++) {
        const unsigned at = low ^ bytes[i];
        info->vacant.word[at >> 6] &= ~((uint64_t)1 << (at & 63));
        b->trie->units[block * 256 + at].meta = 0x100u | bytes[i];
    }
    info->left -= (uint32_t)n;
    *base = block * 256 + low;
    return EMBED_OK;
}

/* Keys low .. high share their first `depth` bytes, which lead to `node`. */
typedef struct range {
    size_t low, high, depth;
    uint32_t node;
} range;

typedef struct range_stack {
    range *items;
    size_t n, cap;
} range_stack;

static embed_status build_node(builder *b, range_stack *stack, const emb_trie_key *keys, range r) {
    unsigned char bytes[256];
    size_t starts[257], n = 0;
    uint32_t base;
    emb_trie *t = b->trie;
    if (r.low < r.high && keys[r.low].len == r.depth) {
        t->units[r.node].meta |= (keys[r.low].value + 1) << 9;
        r.low++;
    }
    for (size_t i = r.low; i < r.high; i++) {
        const unsigned char c = byte_at(&keys[i], r.depth);
        if (n == 0 || bytes[n - 1] != c) {
            bytes[n] = c;
            starts[n++] = i;
        }
    }
    if (n == 0)
        return EMBED_OK; /* base 0, where every unit belongs to the root */
    starts[n] = r.high;
    embed_status st = place(b, bytes, n, &base);
    if (st != EMBED_OK)
        return st;
    t->units[r.node].base = base;
    void *items = stack->items;
    st = emb_grow(b->env, &items, &stack->cap, stack->n + n, sizeof *stack->items);
    stack->items = items;
    if (st != EMBED_OK)
        return st;
    for (size_t i = n; i-- > 0;) /* the first child comes next: neighbours stay close */
        stack->items[stack->n++] = (range){starts[i], starts[i + 1], r.depth + 1, base ^ bytes[i]};
    return EMBED_OK;
}

/* How many nodes the keys make: of each key, the bytes that it does not share with the one before.
 */
static size_t count_nodes(const emb_trie_key *keys, size_t n) {
    size_t nodes = 1;
    for (size_t i = 0; i < n; i++) {
        size_t shared = 0;
        if (i > 0) {
            const size_t both = keys[i].len < keys[i - 1].len ? keys[i].len : keys[i - 1].len;
            const uint64_t differ = keys[i].prefix ^ keys[i - 1].prefix;
            shared = differ != 0 ? (size_t)__builtin_clzll(differ) / 8 : 8;
            while (shared >= 8 && shared < both && keys[i].ptr[shared] == keys[i - 1].ptr[shared])
                shared++;
            shared = shared < both ? shared : both;
        }
        nodes += keys[i].len - shared;
    }
    return nodes;
}

embed_status emb_trie_build(emb_trie *out, const emb_env *env, const emb_trie_key *keys, size_t n) {
    embed_status st;
    builder b = {out, env, NULL, 0, {0}, 0};
    range_stack stack = {NULL, 0, 0};
    void *items, *units = NULL;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < n; i++)
        if (keys[i].len > out->longest)
            out->longest = keys[i].len;
    const size_t nodes = count_nodes(keys, n);
    st = emb_grow(env, &units, &out->cap, nodes + nodes / 16 + 512, sizeof *out->units);
    out->units = units;
    EMB_TRY(st);
    EMB_TRY(add_block(&b));
    /* Unit 0 is the root; no other node may have base 0, so that leaves can. */
    b.blocks[0].vacant.word[0] &= ~(uint64_t)1;
    b.blocks[0].no_base.word[0] &= ~(uint64_t)1;
    b.blocks[0].left--;
    EMB_TRY(emb_new_array(env, 256, sizeof(range), &items));
    stack = (range_stack){items, 0, 256};
    stack.items[stack.n++] = (range){0, n, 0, 0};
    while (stack.n > 0)
        EMB_TRY(build_node(&b, &stack, keys, stack.items[--stack.n]));
fail:
    emb_free(env, b.blocks);
    emb_free(env, stack.items);
    if (st != EMBED_OK)
        emb_trie_free(out, env);
    return st;
}

void emb_trie_free(emb_trie *trie, const emb_env *env) {
    emb_free(env, trie->units);
    memset(trie, 0, sizeof *trie);
}

int32_t emb_trie_find(const emb_trie *trie, const char *key, size_t len) {
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++)
        if (!emb_trie_step(trie, &node, (unsigned char)key[i]))
            return -1;
    return emb_trie_value(trie, node);
}

#include "tokenizer/unicode_props.h"

#include <string.h>

#include "tokenizer/unicode_tables.h"

/* Hangul syllables: Unicode 15, section 3.12. */
enum {
    S_BASE = 0xac00,
    L_BASE = 0x1100,
    V_BASE = 0x1161,
    T_BASE = 0x11a7,
    L_COUNT = 19,
    V_COUNT = 21,
    T_COUNT = 28,
    S_COUNT = L_COUNT * V_COUNT * T_COUNT
};

#define CODE_POINTS 0x110000

/* A block of 256 values that equals the stored one before it is stored only once. */
static embed_status put_block(emb_char_table *table, const emb_env *env, size_t at,
                              const uint16_t values[256]) {
    void *array = table->values;
    /* Unassigned and ideographic stretches repeat the last or the first block. */
    const size_t seen[2] = {table->blocks - 1, 0};
    for (size_t i = 0; i < 2 && table->blocks > 0; i++)
        if (memcmp(table->values + seen[i] * 256, values, 256 * sizeof *values) == 0) {
            table->block[at] = (uint16_t)seen[i];
            return EMBED_OK;
        }
    const embed_status st =
        emb_grow(env, &array, &table->cap, (table->blocks + 1) * 256, sizeof *table->values);
    table->values = array;
    if (st != EMBED_OK)
        return st;
    memcpy(table->values + table->blocks * 256, values, 256 * sizeof *values);
    table->block[at] = (uint16_t)table->blocks++;
    return EMBED_OK;
}

static embed_status expand_runs(emb_char_table *table, const emb_env *env, const uint32_t *runs,
                                size_t n) {
    uint16_t values[256];
    size_t run = 0;
    for (size_t block = 0; block < EMB_CHAR_BLOCKS; block++) {
        for (size_t i = 0; i < 256; i++) {
            while (run + 1 < n && runs[run + 1] >> 8 <= (block << 8 | i))
                run++;
            values[i] = runs[run] & 255;
        }
        const embed_status st = put_block(table, env, block, values);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}

/* Decompositions and lowercase come as ascending (code point, offset into data). */
typedef struct map_builder {
    emb_char_table *table;
    const emb_env *env;
    size_t block; /* the one that `values` belongs to */
    uint16_t values[256];
} map_builder;

static embed_status map_put(map_builder *b, uint32_t c, size_t offset) {
    for (; b->block < c >> 8; b->block++) {
        const embed_status st = put_block(b->table, b->env, b->block, b->values);
        if (st != EMBED_OK)
            return st;
        memset(b->values, 0, sizeof b->values);
    }
    if (c < CODE_POINTS)
        b->values[c & 255] = (uint16_t)offset;
    return EMBED_OK;
}

static embed_status put_data(emb_unicode *u, const emb_env *env, const uint32_t *values, size_t n,
                             size_t *offset) {
    void *array = u->data;
    const embed_status st =
        emb_grow(env, &array, &u->data_cap, u->data_len + n + 1, sizeof *u->data);
    u->data = array;
    if (st != EMBED_OK)
        return st;
    *offset = u->data_len;
    u->data[u->data_len++] = (uint32_t)n;
    if (n > 0) /* values may be NULL then */
        memcpy(u->data + u->data_len, values, n * sizeof *values);
    u->data_len += n;
    return EMBED_OK;
}

static embed_status expand_mappings(emb_unicode *u, emb_char_table *table, const emb_env *env,
                                    const uint32_t *stream, size_t n) {
    embed_status st;
    map_builder b = {table, env, 0, {0}};
    size_t offset;
    for (size_t at = 0; at < n;) {
        const uint32_t first = stream[at], count = stream[at + 1] >> 8, len = stream[at + 1] & 127;
        const int grows = (stream[at + 1] & 128) != 0;
        at += 2;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t grown = stream[at] + i;
            EMB_TRY(put_data(u, env, grows ? &grown : stream + at, len, &offset));
            EMB_TRY(map_put(&b, first + i, offset));
            at += grows ? 0 : len;
        }
        at += grows ? 1 : 0;
    }
    EMB_TRY(map_put(&b, CODE_POINTS, 0));
fail:
    return st;
}

static embed_status expand_lower(emb_unicode *u, const emb_env *env) {
    embed_status st;
    map_builder b = {&u->lower, env, 0, {0}};
    static const uint32_t dotted_i[2] = {0x69, 0x307}; /* the only one of two code points */
    size_t offset;
    for (size_t i = 0; i < emb_unicode_lower_len; i += 4) {
        const int32_t *run = emb_unicode_lower + i;
        for (int32_t c = run[0]; c <= run[1]; c += run[2]) {
            const uint32_t lower = (uint32_t)(c + run[3]);
            EMB_TRY(put_data(u, env, &lower, 1, &offset));
            EMB_TRY(map_put(&b, (uint32_t)c, offset));
            if (c == 0x12e) {
                EMB_TRY(put_data(u, env, dotted_i, 2, &offset));
                EMB_TRY(map_put(&b, 0x130, offset));
            }
        }
    }
    EMB_TRY(map_put(&b, CODE_POINTS, 0));
fail:
    return st;
}

#define SECONDS_MAX 256

/* The characters that can join the one before them, apart from Hangul. */
typedef struct second_set {
    uint32_t members[SECONDS_MAX];
    size_t n;
} second_set;

static int is_second(const second_set *set, uint32_t c) {
    if (c - V_BASE < V_COUNT || c - T_BASE - 1 < T_COUNT - 1)
        return 1;
    for (size_t i = 0; i < set->n; i++)
        if (set->members[i] == c)
            return 1;
    return 0;
}

static void collect_seconds(second_set *set) {
    set->n = 0;
    for (size_t i = 1; i < emb_unicode_compose_len; i += 3)
        if (!is_second(set, emb_unicode_compose[i]) && set->n < SECONDS_MAX)
            set->members[set->n++] = emb_unicode_compose[i];
}

/* The flags that follow from the mappings. */
static unsigned derived_flags(const emb_unicode *u, const second_set *seconds, uint32_t c) {
    uint32_t nfd[EMB_DECOMPOSED_MAX], nfkd[EMB_DECOMPOSED_MAX];
    unsigned flags = 0;
    const size_t n = emb_char_decompose(u, c, 0, nfd), k = emb_char_decompose(u, c, 1, nfkd);
    const int canonical = n > 1 || nfd[0] != c, compatible = k > 1 || nfkd[0] != c;
    if (emb_char_value(&u->lower, c) != 0)
        flags |= EMB_CHAR_LOWER;
    if (canonical)
        flags |= EMB_CHAR_NFD;
    if (compatible)
        flags |= EMB_CHAR_NFKD;
    if (emb_char_value(&u->ccc, nfkd[0]) != 0 || emb_char_value(&u->ccc, nfd[0]) != 0)
        flags |= EMB_CHAR_REORDER;
    if (is_second(seconds, nfkd[0]) || is_second(seconds, nfd[0]))
        flags |= EMB_CHAR_SECOND;
    if (canonical) { /* composition undoes it unless it is excluded from that */
        uint32_t whole = nfd[0];
        for (size_t i = 1; i < n && whole != 0; i++)
            whole = emb_char_compose(whole, nfd[i]);
        if (whole != c)
            flags |= EMB_CHAR_NFC | EMB_CHAR_NFKC;
    }
    if (k != n || memcmp(nfd, nfkd, n * sizeof *nfd) != 0)
        flags |= EMB_CHAR_NFKC;
    return flags;
}

/* Whether some character of the block has more than the flags of the generated table. */
static int has_mappings(const emb_unicode *u, const second_set *seconds, uint32_t block) {
    const emb_char_table *const tables[] = {&u->ccc, &u->lower, &u->canonical, &u->compatible};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const uint16_t *values = tables[i]->values + (size_t)tables[i]->block[block] * 256;
        for (size_t k = 0; k < 256; k++)
            if (values[k] != 0)
                return 1;
    }
    for (size_t i = 0; i < seconds->n; i++)
        if (seconds->members[i] >> 8 == block)
            return 1;
    return block == L_BASE >> 8 || (block >= S_BASE >> 8 && block <= (S_BASE + S_COUNT) >> 8);
}

static embed_status expand_flags(emb_unicode *u, const emb_env *env) {
    embed_status st;
    uint16_t values[256];
    second_set seconds;
    emb_char_table *props = NULL;
    void *block_of_props;
    collect_seconds(&seconds);
    EMB_TRY(emb_new(env, sizeof *props, &block_of_props));
    props = block_of_props;
    EMB_TRY(expand_runs(props, env, emb_unicode_props, emb_unicode_props_len));
    for (uint32_t block = 0; block < EMB_CHAR_BLOCKS; block++) {
        const int mappings = has_mappings(u, &seconds, block);
        for (uint32_t i = 0; i < 256; i++)
            values[i] = (uint16_t)(emb_char_value(props, block << 8 | i) |
                                   (mappings ? derived_flags(u, &seconds, block << 8 | i) : 0));
        EMB_TRY(put_block(&u->flags, env, block, values));
    }
fail:
    if (props != NULL)
        emb_free(env, props->values);
    emb_free(env, props);
    return st;
}

embed_status emb_unicode_create(emb_unicode **out, const emb_env *env) {
    embed_status st;
    void *block;
    size_t nothing;
    *out = NULL;
    if ((st = emb_new(env, sizeof(emb_unicode), &block)) != EMBED_OK)
        return st;
    emb_unicode *u = block;
    EMB_TRY(put_data(u, env, NULL, 0, &nothing)); /* offset 0 means none */
    EMB_TRY(expand_runs(&u->ccc, env, emb_unicode_ccc, emb_unicode_ccc_len));
    EMB_TRY(expand_runs(&u->gcb, env, emb_unicode_gcb, emb_unicode_gcb_len));
    EMB_TRY(expand_lower(u, env));
    EMB_TRY(
        expand_mappings(u, &u->canonical, env, emb_unicode_canonical, emb_unicode_canonical_len));
    EMB_TRY(expand_mappings(u, &u->compatible, env, emb_unicode_compatible,
                            emb_unicode_compatible_len));
    EMB_TRY(expand_flags(u, env));
    *out = u;
    return EMBED_OK;
fail:
    emb_unicode_free(u, env);
    return st;
}

void emb_unicode_free(emb_unicode *u, const emb_env *env) {
    if (u == NULL)
        return;
    emb_char_table *const tables[] = {&u->flags, &u->ccc,       &u->gcb,
                                      &u->lower, &u->canonical, &u->compatible};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        emb_free(env, tables[i]->values);
    emb_free(env, u->data);
    emb_free(env, u);
}

size_t emb_char_lower(const emb_unicode *u, uint32_t c, uint32_t out[2]) {
    const uint32_t *data = u->data + emb_char_value(&u->lower, c);
    out[0] = data[0] > 0 ? data[1] : c;
    if (data[0] == 2)
        out[1] = data[2];
    return data[0] == 2 ? 2 : 1;
}

size_t emb_char_decompose(const emb_unicode *u, uint32_t c, int compatible,
                          uint32_t out[EMB_DECOMPOSED_MAX]) {
    const uint32_t s = c - S_BASE;
    if (s < S_COUNT) {
        out[0] = L_BASE + s / (V_COUNT * T_COUNT);
        out[1] = V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT;
        out[2] = T_BASE + s % T_COUNT;
        return s % T_COUNT > 0 ? 3 : 2;
    }
    const uint32_t *data = u->data + (compatible ? emb_char_value(&u->compatible, c) : 0);
    if (data[0] == 0)
        data = u->data + emb_char_value(&u->canonical, c);
    if (data[0] == 0) {
        out[0] = c;
        return 1;
    }
    memcpy(out, data + 1, data[0] * sizeof *out);
    return data[0];
}

uint32_t emb_char_compose(uint32_t a, uint32_t b) {
    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b - T_BASE - 1 < T_COUNT - 1)
        return a + (b - T_BASE);
    size_t low = 0, high = emb_unicode_compose_len / 3;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const uint32_t *pair = emb_unicode_compose + mid * 3;
        if (pair[0] == a && pair[1] == b)
            return pair[2];
        if (pair[0] < a || (pair[0] == a && pair[1] < b))
            low = mid + 1;
        else
            high = mid;
    }
    return 0;
}

/* Lookups equal a naive longest match on a million positions: words of real abstracts and random
 * ones, K = 2 .. 8. */
#include "support/test.h"

#include "ngram/ngram_index.h"

#define MAX_WORDS ((size_t)400000)
#define MAX_VOCAB 30000
#define SPECIAL 7 /* the id of a word that is declared special */
#define SLOTS ((size_t)1 << 21)

typedef uint32_t key_ids[EMB_NGRAM_MAX_K];

/* A text of token ids, cut into texts. */
typedef struct corpus {
    int32_t *ids, *offsets;
    size_t texts;
} corpus;

/* ------------------------------------------------------------- words of the abstracts to numbers
 */

typedef struct word {
    char text[24];
    int used;
} word;

static int32_t number_of(word *words, const char *text, size_t len) {
    uint32_t h = 2166136261u;
    len = len < 23 ? len : 23;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    for (h %= MAX_VOCAB; words[h].used; h = (h + 1) % MAX_VOCAB)
        if (strlen(words[h].text) == len && memcmp(words[h].text, text, len) == 0)
            return (int32_t)h;
    memcpy(words[h].text, text, len);
    words[h].used = 1;
    return (int32_t)h;
}

/* Each line a text, each run of letters or digits a word. */
static void read_corpus(corpus *c) {
    FILE *f = fopen(TEST_DATA_DIR "/cranfield/corpus.jsonl", "rb");
    static char line[1 << 16];
    word *words = calloc(MAX_VOCAB, sizeof *words);
    int32_t n = 0;
    assert_non_null(f);
    c->ids = malloc(MAX_WORDS * sizeof *c->ids);
    c->offsets = calloc(MAX_WORDS, sizeof *c->offsets);
    c->texts = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        for (const char *p = line; *p != '\0' && (size_t)n < MAX_WORDS;) {
            const size_t len = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789");
            if (len > 0)
                c->ids[n++] = number_of(words, p, len);
            p += len > 0 ? len : 1;
        }
        c->offsets[++c->texts] = n;
    }
    (void)fclose(f);
    free(words);
}

static void make_random(corpus *c, size_t n, uint64_t *rng) {
    c->ids = malloc(n * sizeof *c->ids);
    c->offsets = calloc(n + 2, sizeof *c->offsets);
    c->texts = 0;
    for (size_t i = 0; i < n; i++) {
        const double u = test_uniform(rng);
        c->ids[i] = (int32_t)(40 * u * u); /* few ids, so that long n-grams come again */
        if (test_rand(rng) % 50 == 0)
            c->offsets[++c->texts] = (int32_t)i;
    }
    c->offsets[++c->texts] = (int32_t)n;
}

/* -------------------------------------------------- a plain exact set, linear probing, full keys
 */

typedef struct gram_set {
    key_ids *ids;
    uint8_t *lengths;
    uint32_t *counts, *slots; /* slots: row + 1 */
    uint32_t n, capacity;
} gram_set;

static uint32_t *slot_of(const gram_set *s, const int32_t *ids, int32_t n) {
    uint64_t h = (uint64_t)n;
    for (int32_t i = 0; i < n; i++)
        h = (h ^ (uint32_t)ids[i]) * 1099511628211u + 12345;
    for (size_t at = (size_t)(h ^ h >> 29) % SLOTS;; at = (at + 1) % SLOTS) {
        const uint32_t r = s->slots[at];
        if (r == 0 ||
            (s->lengths[r - 1] == n && memcmp(s->ids[r - 1], ids, (size_t)n * sizeof *ids) == 0))
            return &s->slots[at];
    }
}

static void set_add(gram_set *s, const int32_t *ids, int32_t n) {
    uint32_t *slot = slot_of(s, ids, n);
    if (*slot == 0) {
        if (s->n == s->capacity)
            return;
        memset(s->ids[s->n], 0, sizeof(key_ids));
        memcpy(s->ids[s->n], ids, (size_t)n * sizeof *ids);
        s->lengths[s->n] = (uint8_t)n;
        s->counts[s->n] = 0;
        *slot = ++s->n;
    }
    s->counts[*slot - 1]++;
}

static void set_make(gram_set *s) {
    s->capacity = 700000;
    s->n = 0;
    s->ids = malloc(s->capacity * sizeof(key_ids));
    s->lengths = malloc(s->capacity);
    s->counts = malloc(s->capacity * sizeof *s->counts);
    s->slots = calloc(SLOTS, sizeof *s->slots);
}

static void set_free(gram_set *s) {
    free(s->ids);
    free(s->lengths);
    free(s->counts);
    free(s->slots);
}

/* n-grams of the corpus that come `least` times, some long ones in place of all their suffixes. */
static void choose(gram_set *chosen, const corpus *c, int32_t k, uint32_t least) {
    gram_set all;
    set_make(&all);
    set_make(chosen);
    for (size_t t = 0; t < c->texts; t++)
        for (int32_t i = c->offsets[t]; i < c->offsets[t + 1]; i++)
            for (int32_t n = 2; n <= k && i - n + 1 >= c->offsets[t]; n++)
                set_add(&all, c->ids + i - n + 1, n);
    for (uint32_t r = 0; r < all.n && chosen->n < 100000; r++)
        if (all.counts[r] >= least && r % 11 != 0) /* not closed: path entries are needed */
            set_add(chosen, (const int32_t *)all.ids[r], all.lengths[r]);
    set_free(&all);
}

/* ------------------------------------------------------------------------------------ comparing */

static size_t compare(const emb_ngram_index *index, const gram_set *s, const corpus *c, int32_t k) {
    const int32_t total = c->offsets[c->texts];
    uint32_t *rows = malloc((size_t)total * sizeof *rows);
    uint8_t *lengths = malloc((size_t)total);
    size_t hits = 0;
    emb_ngram_index_lookup(index, c->ids, c->offsets, c->texts, rows, lengths);
    for (size_t t = 0; t < c->texts; t++) {
        int32_t first = c->offsets[t];
        for (int32_t i = c->offsets[t]; i < c->offsets[t + 1]; i++) {
            uint32_t row = EMB_NGRAM_NO_ROW;
            int32_t length = 0;
            if (c->ids[i] == SPECIAL)
                first = i + 1;
            for (int32_t n = k; n >= 2 && length == 0; n--)
                if (i - n + 1 >= first) {
                    const uint32_t r = *slot_of(s, c->ids + i - n + 1, n);
                    row = r > 0 ? r - 1 : row;
                    length = r > 0 ? n : 0;
                }
            if (rows[i] != row || lengths[i] != length)
                fail_msg("position %d, K = %d: expected row %u of %d tokens, found %u of %d", i, k,
                         row, length, rows[i], lengths[i]);
            hits += length > 0;
        }
    }
    free(rows);
    free(lengths);
    return hits;
}

static emb_ngram_index index_of(const gram_set *s, int32_t k, const uint64_t *special) {
    emb_ngram_index index = {.special = special, .vocab = MAX_VOCAB, .k = k};
    uint64_t keys;
    int clash = 1;
    assert_int_equal(emb_ngram_index_buckets(s->n, 0.75, &index.n_buckets), EMBED_OK);
    index.n_buckets *= 2;
    emb_ngram_bucket *buckets = aligned_alloc(64, index.n_buckets * sizeof *buckets);
    while (clash) {
        index.seed++;
        memset(buckets, 0, index.n_buckets * sizeof *buckets);
        assert_int_equal(emb_ngram_index_fill(buckets, index.n_buckets, index.seed,
                                              (const key_ids *)s->ids, s->lengths, s->n, &keys,
                                              &clash),
                         EMBED_OK);
    }
    index.buckets = buckets;
    return index;
}

static void check_corpus(const corpus *c, size_t *positions) {
    static uint64_t special[(MAX_VOCAB + 63) / 64]; /* large */
    special[SPECIAL / 64] |= UINT64_C(1) << SPECIAL % 64;
    for (int32_t k = 2; k <= 8; k++) {
        gram_set s;
        choose(&s, c, k, 3);
        const emb_ngram_index index = index_of(&s, k, special);
        const size_t hits = compare(&index, &s, c, k);
        assert_true(hits > (size_t)c->offsets[c->texts] / 4);
        *positions += (size_t)c->offsets[c->texts];
        free((void *)(uintptr_t)index.buckets);
        set_free(&s);
    }
}

static void real_text(void **state) {
    (void)state;
    corpus c;
    size_t positions = 0;
    read_corpus(&c);
    check_corpus(&c, &positions);
    assert_true(positions >= 1000000);
    free(c.ids);
    free(c.offsets);
}

static void random_text(void **state) {
    (void)state;
    corpus c;
    size_t positions = 0;
    uint64_t rng = 12;
    make_random(&c, 150000, &rng);
    check_corpus(&c, &positions);
    assert_true(positions >= 1000000);
    free(c.ids);
    free(c.offsets);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(real_text), cmocka_unit_test(random_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

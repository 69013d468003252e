#include "support/test.h"

#include "ngram/ngram_index.h"

#define VOCAB 200
#define MAX_KEYS 20000

typedef uint32_t key_ids[EMB_NGRAM_MAX_K];

typedef struct set {
    key_ids *ids;
    uint8_t *lengths;
    uint32_t n;
    emb_ngram_bucket *buckets;
    uint64_t special[(VOCAB + 63) / 64];
    emb_ngram_index index;
} set;

/* Tokens follow a skewed law, so that n-grams repeat. */
static int32_t token(uint64_t *rng, int vocab) {
    const double u = test_uniform(rng);
    return (int32_t)((double)vocab * u * u * u);
}

static int same(const set *s, uint32_t row, const int32_t *ids, int32_t n) {
    if (s->lengths[row] != n)
        return 0;
    for (int32_t i = 0; i < n; i++)
        if (s->ids[row][i] != (uint32_t)ids[i])
            return 0;
    return 1;
}

static uint32_t naive_find(const set *s, const int32_t *ids, int32_t n) {
    for (uint32_t r = 0; r < s->n; r++)
        if (same(s, r, ids, n))
            return r;
    return EMB_NGRAM_NO_ROW;
}

static void index_set(set *s, double load, int32_t k) {
    uint64_t keys, n_buckets;
    int clash = 1;
    assert_int_equal(emb_ngram_index_buckets(s->n, load, &n_buckets), EMBED_OK);
    n_buckets += n_buckets / 2; /* room for path entries of sets without closure */
    for (uint64_t seed = 1; clash; seed++) {
        free(s->buckets);
        s->buckets = aligned_alloc(64, n_buckets * sizeof *s->buckets);
        memset(s->buckets, 0, n_buckets * sizeof *s->buckets);
        assert_int_equal(emb_ngram_index_fill(s->buckets, n_buckets, seed, (const key_ids *)s->ids,
                                              s->lengths, s->n, &keys, &clash),
                         EMBED_OK);
        s->index = (emb_ngram_index){s->buckets, n_buckets, seed, s->special, VOCAB, k};
    }
}

/* n distinct n-grams of length 2..k; closed: every suffix of length >= 2 is one too. */
static void make_set(set *s, uint32_t n, int32_t k, int closed, uint64_t *rng) {
    *s = (set){.ids = calloc(MAX_KEYS, sizeof(key_ids)), .lengths = calloc(MAX_KEYS, 1)};
    for (int tries = 0; s->n < n && tries < 100000; tries++) {
        int32_t ids[EMB_NGRAM_MAX_K];
        const int32_t length = 2 + (int32_t)(test_rand(rng) % (uint64_t)(k - 1));
        for (int32_t i = 0; i < length; i++)
            ids[i] = token(rng, VOCAB - 10);
        for (int32_t m = closed ? 2 : length; m <= length; m++) {
            if (naive_find(s, ids + length - m, m) != EMB_NGRAM_NO_ROW || s->n == MAX_KEYS)
                continue;
            for (int32_t i = 0; i < m; i++)
                s->ids[s->n][i] = (uint32_t)ids[length - m + i];
            s->lengths[s->n++] = (uint8_t)m;
        }
    }
    for (int i = VOCAB - 5; i < VOCAB; i++) /* the last five ids are special tokens */
        s->special[i / 64] |= UINT64_C(1) << (i % 64);
}

static void free_set(set *s) {
    free(s->ids);
    free(s->lengths);
    free(s->buckets);
}

static void check_lookup(const set *s, const int32_t *ids, const int32_t *offsets, size_t texts,
                         int32_t k, size_t *hits) {
    const size_t total = (size_t)offsets[texts];
    uint32_t *rows = malloc((total + 1) * sizeof *rows);
    uint8_t *lengths = malloc(total + 1);
    emb_ngram_index_lookup(&s->index, ids, offsets, texts, rows, lengths);
    for (size_t t = 0; t < texts; t++) {
        int32_t first = offsets[t];
        for (int32_t i = offsets[t]; i < offsets[t + 1]; i++) {
            uint32_t row = EMB_NGRAM_NO_ROW;
            int32_t length = 0;
            if (ids[i] >= VOCAB - 5 || ids[i] < 0)
                first = i + 1;
            for (int32_t n = 2; n <= k && i - n + 1 >= first; n++) {
                const uint32_t r = naive_find(s, ids + i - n + 1, n);
                if (r != EMB_NGRAM_NO_ROW) {
                    row = r;
                    length = n;
                }
            }
            assert_int_equal(rows[i], row);
            assert_int_equal(lengths[i], length);
            *hits += length > 0;
        }
    }
    free(rows);
    free(lengths);
}

static void lookup_equals_naive_longest_match(void **state) {
    (void)state;
    uint64_t rng = 7;
    for (int32_t k = 2; k <= 8; k++)
        for (int closed = 0; closed < 2; closed++) {
            set s;
            size_t hits = 0;
            static int32_t ids[3000], offsets[120];
            size_t texts = 0;
            offsets[0] = 0;
            make_set(&s, 300, k, closed, &rng);
            index_set(&s, closed ? 0.75 : 0.3, k);
            while (offsets[texts] < 2900 && texts < 118) {
                const int32_t n = (int32_t)(test_rand(&rng) % 60);
                for (int32_t i = 0; i < n; i++) {
                    const uint64_t dice = test_rand(&rng) % 40;
                    ids[offsets[texts] + i] = dice == 0   ? VOCAB - 1
                                              : dice == 1 ? VOCAB - 7
                                                          : token(&rng, VOCAB - 10);
                }
                offsets[texts + 1] = offsets[texts] + n;
                texts++;
            }
            /* some texts are made of the f-grams themselves */
            for (int32_t i = 0; i + 8 < offsets[texts]; i += 17) {
                const uint32_t r = (uint32_t)(test_rand(&rng) % s.n);
                for (int32_t j = 0; j < s.lengths[r]; j++)
                    ids[i + j] = (int32_t)s.ids[r][j];
            }
            check_lookup(&s, ids, offsets, texts, k, &hits);
            assert_true(hits > 100);
            for (uint32_t r = 0; r < s.n; r++) {
                int32_t key[EMB_NGRAM_MAX_K];
                for (int j = 0; j < EMB_NGRAM_MAX_K; j++)
                    key[j] = (int32_t)s.ids[r][j];
                assert_int_equal(emb_ngram_index_find(&s.index, key, s.lengths[r]), r);
            }
            free_set(&s);
        }
}

static void edges(void **state) {
    (void)state;
    set s;
    uint64_t rng = 3;
    uint32_t rows[4];
    uint8_t lengths[4];
    const int32_t ids[4] = {1, -5, INT32_MAX, 2}, offsets[3] = {0, 4, 4};
    make_set(&s, 0, 5, 1, &rng);
    index_set(&s, 0.75, 5); /* no f-grams at all */
    emb_ngram_index_lookup(&s.index, ids, offsets, 2, rows, lengths);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rows[i], EMB_NGRAM_NO_ROW);
    emb_ngram_index_lookup(&s.index, ids, offsets, 0, NULL, NULL);
    assert_int_equal(emb_ngram_index_find(&s.index, ids, 1), EMB_NGRAM_NO_ROW);
    assert_int_equal(emb_ngram_index_find(&s.index, ids, 2), EMB_NGRAM_NO_ROW);
    free_set(&s);
}

static void duplicates_and_overflow_are_refused(void **state) {
    (void)state;
    const key_ids ids[3] = {{1, 2}, {3, 4, 5}, {1, 2}};
    const uint8_t lengths[3] = {2, 3, 2};
    _Alignas(64) emb_ngram_bucket buckets[4];
    uint64_t keys;
    int clash;
    memset(buckets, 0, sizeof buckets);
    assert_int_equal(emb_ngram_index_fill(buckets, 4, 1, ids, lengths, 3, &keys, &clash),
                     EMBED_ERR_FORMAT);
    assert_non_null(strstr(emb_fail_message(), "rows 0 and 2"));

    set s;
    uint64_t rng = 5;
    make_set(&s, 40, 4, 1, &rng);
    memset(buckets, 0, sizeof buckets); /* 28 places for 40 keys */
    assert_int_equal(
        emb_ngram_index_fill(buckets, 4, 1, (const key_ids *)s.ids, s.lengths, s.n, &keys, &clash),
        EMBED_ERR_CAPACITY);
    free_set(&s);
}

/* Any bits in the buckets may answer wrongly but must end. */
static void garbage_terminates(void **state) {
    (void)state;
    set s;
    uint64_t rng = 11;
    static int32_t ids[500];
    static uint32_t rows[500];
    static uint8_t lengths[500];
    const int32_t offsets[2] = {0, 500};
    make_set(&s, 200, 5, 1, &rng);
    index_set(&s, 0.75, 5);
    for (uint64_t i = 0; i < s.index.n_buckets * 64; i++)
        ((unsigned char *)s.buckets)[i] = (unsigned char)(i % 64 == 63 ? 0xff : test_rand(&rng));
    for (int i = 0; i < 500; i++)
        ids[i] = token(&rng, VOCAB);
    emb_ngram_index_lookup(&s.index, ids, offsets, 1, rows, lengths);
    for (int i = 0; i < 500; i++)
        assert_true(lengths[i] <= 5);
    free_set(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookup_equals_naive_longest_match),
        cmocka_unit_test(edges),
        cmocka_unit_test(duplicates_and_overflow_are_refused),
        cmocka_unit_test(garbage_terminates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

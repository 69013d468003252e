/* table_fixture: tables for tests, written as real ones are. */
#ifndef EMB_TESTS_SUPPORT_TABLE_FIXTURE_H
#define EMB_TESTS_SUPPORT_TABLE_FIXTURE_H

#include "ngram/ngram_writer.h"
#include "support/files.h"

/* n distinct n-grams and a vector for each, in row order. */
typedef struct test_grams {
    emb_ngram_fgram *list;
    float *vectors; /* [n, width] */
    size_t n, capacity;
    int32_t width;
} test_grams;

void test_grams_init(test_grams *g, int32_t width);
void test_grams_free(test_grams *g);
/* Append one; vector NULL: normal numbers from *rng. Returns its row; asked for an n-gram that is
 * there already: that one's row. */
size_t test_grams_add(test_grams *g, const int32_t *ids, int32_t length, uint32_t count,
                      const float *vector, uint64_t *rng);
/* n more at random: ids least .. most - 1 by a skewed law, lengths 2 .. k; closed: with every
 * suffix of 2 or more tokens before it. May be a few fewer where ids are few. */
void test_grams_random(test_grams *g, size_t n, int32_t k, int32_t least, int32_t most, int closed,
                       uint64_t *rng);
/* Row of an n-gram, -1 if it is none. Slow and plain. */
int64_t test_grams_find(const test_grams *g, const int32_t *ids, int32_t length);

/* Zero: the default. */
typedef struct test_table_spec {
    int32_t dtype;                    /* embed_dtype of the rows; 0: EMBED_F32 */
    int32_t mode;                     /* emb_ngram_mode */
    const emb_ngram_binding *binding; /* what it is bound to; NULL: made up from the next ones */
    int32_t hidden, vocab;            /* 0: width of the rows; 1000 */
    const int32_t *special;           /* ascending */
    int32_t n_special;
    int32_t threads;         /* 0: 2 */
    const uint8_t *key;      /* 32 bytes: encrypted */
    const float *projection; /* [hidden, width]: named "projection" in the manifest */
    uint64_t part_bytes;
    double load;
    const char *corpus; /* provenance */
} test_table_spec;

/* Write it to `path`, which must not exist, or fail the test. */
void test_table_write(const char *path, const test_table_spec *spec, const test_grams *grams);
/* The same without failing the test. */
embed_status test_table_try(const emb_env *env, const char *path, const test_table_spec *spec,
                            const test_grams *grams);
/* A source that reads from memory. */
emb_ngram_source test_grams_source(const test_grams *g);

#endif

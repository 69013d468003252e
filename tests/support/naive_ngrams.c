#include "support/naive_ngrams.h"

#define END UINT32_MAX
#define BREAK (UINT32_MAX - 1)

static const uint32_t *sorted_stream; /* qsort has no context */
static int32_t sorted_length;

static int compare_at(uint32_t a, uint32_t b) {
    for (int32_t i = 0; i < sorted_length; i++) {
        const uint32_t x = sorted_stream[a + (uint32_t)i], y = sorted_stream[b + (uint32_t)i];
        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

static int by_ids(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const int order = compare_at(x, y);
    return order != 0 ? order : (x > y) - (x < y);
}

static size_t occurrences(const uint32_t *positions, size_t n, int32_t length, uint32_t *at) {
    size_t found = 0, run = 0; /* tokens without a break */
    for (size_t i = 0; i < n; i++) {
        run = positions[i] < BREAK ? run + 1 : 0;
        if (run >= (size_t)length)
            at[found++] = (uint32_t)(i + 1 - (size_t)length);
    }
    return found;
}

naive_ngrams naive_count(const uint32_t *positions, size_t n, int32_t k, uint64_t min_count,
                         uint64_t min_documents) {
    naive_ngrams out = {NULL, 0};
    size_t capacity = 0;
    uint32_t *at = malloc((n + 1) * sizeof *at), *document = malloc((n + 1) * sizeof *document);
    for (size_t i = 0, d = 0; i < n; i++) {
        document[i] = (uint32_t)d;
        d += positions[i] == END;
    }
    for (int32_t length = 2; length <= k; length++) {
        const size_t m = occurrences(positions, n, length, at);
        sorted_stream = positions;
        sorted_length = length;
        qsort(at, m, sizeof *at, by_ids);
        for (size_t i = 0, j; i < m; i = j) {
            naive_ngram g = {.length = length};
            for (j = i; j < m && compare_at(at[i], at[j]) == 0; j++)
                g.documents += j == i || document[at[j]] != document[at[j - 1]];
            g.count = j - i;
            if (g.count < min_count || g.documents < min_documents)
                continue;
            memcpy(g.ids, positions + at[i], (size_t)length * sizeof *g.ids);
            if (out.n == capacity) {
                capacity = capacity * 2 + 64;
                out.items = realloc(out.items, capacity * sizeof *out.items);
            }
            out.items[out.n++] = g;
        }
    }
    free(at);
    free(document);
    return out;
}

void naive_stream(uint32_t *positions, size_t n, uint32_t vocab, uint64_t *rng) {
    for (size_t i = 0; i < n; i++) {
        const double u = test_uniform(rng);
        const uint64_t what = test_rand(rng) % 50;
        positions[i] = what == 0 || i + 1 == n ? END
                       : what == 1             ? BREAK
                                               : (uint32_t)((double)vocab * u * u * u);
    }
}

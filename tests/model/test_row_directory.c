/* The directory of a device's row cache against a plain model of it: what a batch finds is there in
 * the order in which batches run, and nobody's row is taken away. */
#include "support/test.h"

#include "model/row_directory.h"

static emb_row_directory *make(uint64_t places) {
    const emb_env env = test_env();
    emb_row_directory *d;
    assert_int_equal(emb_row_directory_create(&d, &env, places), EMBED_OK);
    return d;
}

static emb_ngram_row_header header_of(uint32_t row) {
    emb_ngram_row_header h = {.count = row + 1};
    return h;
}

/* Asks for a row as device_rows does; its place or EMB_NO_PLACE; *found: it was there. */
static uint64_t ask(emb_row_directory *d, uint32_t row, uint64_t batch, int *found) {
    emb_ngram_row_header h;
    uint64_t place = emb_row_directory_find(d, row, batch, &h);
    *found = place != EMB_NO_PLACE;
    if (*found) {
        assert_int_equal(h.count, row + 1);
        return place;
    }
    place = emb_row_directory_take(d, row, batch);
    h = header_of(row);
    if (place != EMB_NO_PLACE)
        emb_row_directory_ready(d, place, &h);
    return place;
}

static void one_place(void **state) {
    (void)state;
    emb_row_directory *d = make(1);
    int found;
    assert_int_equal(ask(d, 7, 1, &found), 0);
    assert_false(found);
    assert_int_equal(ask(d, 7, 1, &found), 0);
    assert_true(found);
    assert_true(ask(d, 8, 1, &found) == EMB_NO_PLACE); /* batch 1 reads 7 there */
    assert_int_equal(ask(d, 8, 2, &found), 0);
    assert_false(found);
    assert_true(ask(d, 7, 2, &found) == EMB_NO_PLACE);
    emb_row_directory_clear(d);
    assert_int_equal(ask(d, 7, 1, &found), 0);
    assert_false(found);
    emb_row_directory_free(d);
}

/* A later batch asked first. */
static void out_of_order(void **state) {
    (void)state;
    emb_row_directory *d = make(1);
    emb_ngram_row_header h = header_of(3);
    const uint64_t place = emb_row_directory_take(d, 3, 5);
    assert_true(emb_row_directory_find(d, 3, 6, &h) == EMB_NO_PLACE); /* not yet checked */
    emb_row_directory_ready(d, place, &h);
    assert_true(emb_row_directory_find(d, 3, 4, &h) == EMB_NO_PLACE); /* comes after 4 has run */
    assert_true(emb_row_directory_take(d, 3, 4) == EMB_NO_PLACE);
    assert_true(emb_row_directory_take(d, 9, 4) == EMB_NO_PLACE); /* 5 would read 9 */
    assert_true(emb_row_directory_find(d, 3, 5, &h) == place);
    assert_true(emb_row_directory_find(d, 3, 8, &h) == place);
    assert_true(emb_row_directory_take(d, 9, 8) == EMB_NO_PLACE);
    assert_true(emb_row_directory_take(d, 9, 9) == place);
    emb_row_directory_free(d);
}

/* The least recently used goes first. */
static void recency(void **state) {
    (void)state;
    emb_row_directory *d = make(16); /* one set */
    int found;
    for (uint32_t row = 0; row < 16; row++)
        assert_true(ask(d, row, row + 1, &found) != EMB_NO_PLACE);
    assert_true(ask(d, 0, 20, &found) != EMB_NO_PLACE && found);
    assert_true(ask(d, 100, 21, &found) != EMB_NO_PLACE && !found); /* takes that of 1 */
    assert_true(ask(d, 0, 22, &found) != EMB_NO_PLACE && found);
    (void)ask(d, 1, 23, &found);
    assert_false(found);
    emb_row_directory_free(d);
}

/* Batches in a random order within a window of three, as the threads of a stage ask: played in the
 * order of their numbers, every place holds what its readers expect. */
static void played(void **state) {
    (void)state;
    enum { BATCHES = 300, ROWS = 24, MOST = 40 };
    static struct {
        uint64_t place[ROWS];
        uint32_t row[ROWS];
        int found[ROWS];
    } batches[BATCHES + 1];
    static uint32_t held[MOST];
    for (uint64_t seed = 1; seed < 6; seed++) {
        uint64_t rng = seed, order[BATCHES], hits = 0;
        emb_row_directory *d = make(seed * 8);
        const uint64_t places = emb_row_directory_places(d);
        assert_int_equal(places, emb_row_directory_round(seed * 8));
        assert_true(emb_row_directory_bytes(places) > places * sizeof(emb_ngram_row_header));
        for (uint64_t i = 0; i < BATCHES; i++)
            order[i] = i + 1;
        for (uint64_t i = 0; i + 1 < BATCHES; i++)
            if (test_rand(&rng) % 2) {
                const uint64_t swap = order[i];
                order[i] = order[i + 1];
                order[i + 1] = swap;
                i++;
            }
        for (uint64_t i = 0; i < BATCHES; i++)
            for (uint32_t r = 0; r < ROWS; r++) {
                const double u = test_uniform(&rng);
                batches[order[i]].row[r] = (uint32_t)(200 * u * u * u);
                batches[order[i]].place[r] =
                    ask(d, batches[order[i]].row[r], order[i], &batches[order[i]].found[r]);
            }
        for (uint64_t b = 1; b <= BATCHES; b++) {
            for (uint32_t r = 0; r < ROWS; r++) /* first what it brings, then it reads */
                if (batches[b].place[r] != EMB_NO_PLACE && !batches[b].found[r]) {
                    assert_true(batches[b].place[r] < places);
                    held[batches[b].place[r]] = batches[b].row[r];
                }
            for (uint32_t r = 0; r < ROWS; r++)
                if (batches[b].place[r] != EMB_NO_PLACE) {
                    assert_int_equal(held[batches[b].place[r]], batches[b].row[r]);
                    hits += (uint64_t)batches[b].found[r];
                }
        }
        assert_true(hits > BATCHES);
        emb_row_directory_free(d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_place), cmocka_unit_test(out_of_order),
                                       cmocka_unit_test(recency), cmocka_unit_test(played)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

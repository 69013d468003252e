/* Tables swapped by one thread while another encodes on a device, and contexts of several threads
 * that share a table there: every vector is that of one of the tables, and nothing is left. */
#include "support/device_rows_world.h"

#include <pthread.h>

#define CALLS 6
#define FEW 3 /* texts of a call */

typedef struct job {
    rows_world *r;
    embed_context *ctx;
    float without[TEXTS * MAX_DIM];
    embed_status failed;
    int neither; /* calls whose vectors are of no table */
} job;

static void *calls(void *arg) {
    job *j = arg;
    float got[FEW * MAX_DIM];
    const size_t bytes = FEW * (size_t)j->r->w.model->dim * sizeof *got;
    for (int i = 0; i < CALLS; i++) {
        const embed_status st = encode(j->ctx, &j->r->w, FEW, got);
        if (st != EMBED_OK)
            j->failed = st;
        else if (memcmp(got, j->r->want, bytes) != 0 && memcmp(got, j->without, bytes) != 0)
            j->neither++;
    }
    return NULL;
}

static void start(pthread_t *thread, job *j) {
    assert_int_equal(pthread_create(thread, NULL, calls, j), 0);
}

static void finish(pthread_t thread, const job *j) {
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(j->failed, EMBED_OK);
    assert_int_equal(j->neither, 0);
}

static void swapped(void **state) {
    (void)state;
    static rows_world r;
    static job j;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_I8}, 0, NULL);
    for (size_t p = 0; p < PLACES; p++) {
        pthread_t thread;
        memset(&j, 0, sizeof j);
        j.r = &r;
        make_fake(&r.w, p, 0);
        TEST_OK(rows_context(&r, all_places[p], 0, &j.ctx));
        TEST_OK(embed_context_set_table(j.ctx, NULL));
        TEST_OK(encode(j.ctx, &r.w, TEXTS, j.without));
        start(&thread, &j);
        for (int i = 0; i < 2 * CALLS; i++)
            TEST_OK(embed_context_set_table(j.ctx, i % 2 == 0 ? r.table : NULL));
        finish(thread, &j);
        embed_context_free(j.ctx);
        assert_string_equal(emb_fake_fault(r.w.fake), "");
        drop_fake(&r.w);
    }
    close_rows(&r);
}

static void shared(void **state) {
    (void)state;
    static rows_world r;
    static job j[2];
    open_rows(&r, &(test_table_spec){.dtype = EMBED_F16}, 0, NULL);
    for (size_t p = 0; p < PLACES; p++) {
        pthread_t threads[2];
        make_fake(&r.w, p, 0);
        for (int i = 0; i < 2; i++) {
            memset(&j[i], 0, sizeof j[i]);
            j[i].r = &r;
            memcpy(j[i].without, r.want, sizeof r.want);
            TEST_OK(rows_context(&r, all_places[p], 0, &j[i].ctx));
        }
        for (int i = 0; i < 2; i++)
            start(&threads[i], &j[i]);
        for (int i = 0; i < 2; i++)
            finish(threads[i], &j[i]);
        for (int i = 0; i < 2; i++)
            embed_context_free(j[i].ctx);
        assert_null(r.table->images);
        assert_string_equal(emb_fake_fault(r.w.fake), "");
        drop_fake(&r.w);
    }
    close_rows(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(swapped), cmocka_unit_test(shared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

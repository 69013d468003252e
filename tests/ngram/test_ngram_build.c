/* embed_ngram_build beyond what tests/cli/ngram_build.sh sees: projections, safetensors, locks. */
#define _GNU_SOURCE
#include "support/handles.h"
#include "support/tensors.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define HIDDEN 16
#define WIDTH 7
#define ROWS 60

typedef struct place {
    char dir[256], list[300], rows[320], projection[320], table[300];
    tiny_model model;
    embed_model *open;
} place;

static void open_place(place *p) {
    uint64_t seed = 5;
    test_tensors t;
    tiny_spec spec = tiny_spec_bert();
    spec.hidden = HIDDEN;
    spec.heads = 2;
    spec.words = 80;
    tiny_model_make(&p->model, &spec);
    p->open = test_open(p->model.dir);
    test_dir_make(p->dir);
    FILE *f = fopen(test_path(p->dir, "list.jsonl"), "w");
    assert_non_null(f);
    for (int i = 0; i < ROWS; i++)
        (void)fprintf(f, "{\"ids\":[%d,%d]}\n", TINY_FIRST_WORD + i, TINY_FIRST_WORD);
    assert_int_equal(fclose(f), 0);
    test_tensors_init(&t);
    test_tensors_add(&t, "wide", EMBED_F16, ROWS, WIDTH, NULL, 1, &seed);
    test_tensors_add(&t, "full", EMBED_BF16, ROWS, HIDDEN, NULL, 1, &seed);
    test_tensors_write(&t, p->dir, "rows.safetensors", 8);
    test_tensors_init(&t);
    test_tensors_add(&t, "down", EMBED_F32, HIDDEN, WIDTH, NULL, 1, &seed);
    test_tensors_add(&t, "other", EMBED_F32, WIDTH, HIDDEN, NULL, 1, &seed);
    float bad[HIDDEN * WIDTH] = {0};
    bad[WIDTH + 2] = NAN;
    test_tensors_add(&t, "bad", EMBED_F32, HIDDEN, WIDTH, bad, 1, &seed);
    test_tensors_write(&t, p->dir, "projection.safetensors", 8);
    (void)snprintf(p->list, sizeof p->list, "%s/list.jsonl", p->dir);
    (void)snprintf(p->table, sizeof p->table, "%s/table", p->dir);
}

static void close_place(place *p) {
    embed_model_free(p->open);
    tiny_model_remove(&p->model);
    test_dir_remove(p->dir);
}

static embed_status build(place *p, const char *tensor, const char *projection) {
    (void)snprintf(p->rows, sizeof p->rows, "%s/rows.safetensors%s%s", p->dir,
                   tensor != NULL ? ":" : "", tensor != NULL ? tensor : "");
    (void)snprintf(p->projection, sizeof p->projection, "%s/projection.safetensors:%s", p->dir,
                   projection != NULL ? projection : "");
    const embed_build_params params = {.struct_size = sizeof params,
                                       .dtype = EMBED_F32,
                                       .projection = projection != NULL ? p->projection : NULL};
    return embed_ngram_build(p->open, p->list, p->rows, p->table, &params);
}

static void rows_of_another_width_are_projected(void **state) {
    (void)state;
    place p;
    embed_table *t;
    embed_table_info info = {.struct_size = sizeof info};
    open_place(&p);
    test_fails(build(&p, "wide", NULL), EMBED_ERR_MISMATCH, "rows are 7 wide");
    test_fails(build(&p, NULL, NULL), EMBED_ERR_ARG, "rows.safetensors");
    test_fails(build(&p, "none", NULL), EMBED_ERR_FORMAT, "none");
    test_fails(build(&p, "wide", "other"), EMBED_ERR_MISMATCH, "expected a matrix [16, row width]");
    test_fails(build(&p, "wide", "bad"), EMBED_ERR_FORMAT, "projection bad: [1, 2] is nan");
    test_fails(build(&p, "full", "down"), EMBED_ERR_MISMATCH, "the projection takes 7");
    TEST_OK(build(&p, "wide", "down"));
    TEST_OK(embed_table_open(&t, p.table, p.open, NULL));
    TEST_OK(embed_table_get_info(t, &info));
    assert_int_equal(info.width, WIDTH);
    assert_int_equal(info.hidden, HIDDEN);
    assert_int_equal(info.rows, ROWS);
    embed_table_free(t);
    const embed_verify_params full = {.struct_size = sizeof full, .full = 1};
    TEST_OK(embed_table_verify(p.table, p.open, &full, NULL));
    close_place(&p);
}

static void halves_of_safetensors_are_widened_exactly(void **state) {
    (void)state;
    place p;
    embed_table *t;
    int64_t rows[ROWS];
    static float got[ROWS * HIDDEN];
    open_place(&p);
    TEST_OK(build(&p, "full", NULL));
    TEST_OK(embed_table_open(&t, p.table, p.open, NULL));
    for (int i = 0; i < ROWS; i++)
        rows[i] = i;
    TEST_OK(embed_table_fetch(t, rows, ROWS, got, ROWS * HIDDEN, NULL));
    uint32_t any = 0;
    for (int i = 0; i < ROWS * HIDDEN; i++) { /* bf16: the lower half of the bits is zero */
        uint32_t bits;
        memcpy(&bits, &got[i], sizeof bits);
        assert_int_equal(bits & 0xffffu, 0);
        any |= bits;
    }
    assert_int_not_equal(any, 0);
    embed_table_free(t);
    close_place(&p);
}

static int32_t stop(void *user, const embed_job_report *report) {
    int *left = user;
    assert_non_null(report->phase);
    return --*left == 0;
}

static void callers_may_cancel_and_go_on(void **state) {
    (void)state;
    place p;
    open_place(&p);
    (void)build(&p, "full", NULL); /* for the names */
    test_dir_remove(p.table);
    for (int at = 1, done = 0; !done; at++) {
        int left = at;
        embed_build_params params = {.struct_size = sizeof params,
                                     .job = {.report = stop, .user = &left, .resume = 1}};
        const embed_status st = embed_ngram_build(p.open, p.list, p.rows, p.table, &params);
        done = st == EMBED_OK;
        assert_true(done || st == EMBED_ERR_CANCELLED);
    }
    TEST_OK(embed_table_verify(p.table, p.open, NULL, NULL));
    close_place(&p);
}

static void one_publisher_at_a_time(void **state) {
    (void)state;
    place p;
    char store[300];
    open_place(&p);
    TEST_OK(build(&p, "full", NULL));
    (void)snprintf(store, sizeof store, "%s/store", p.dir);
    TEST_OK(embed_table_publish(store, p.table, NULL, NULL));
    const int fd = open(test_path(store, ".lock"), O_RDWR);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    test_fails(embed_table_publish(store, p.table, NULL, NULL), EMBED_ERR_IO, "another process");
    test_fails(embed_table_rollback(store, NULL, NULL), EMBED_ERR_IO, "another process");
    assert_int_equal(close(fd), 0);
    TEST_OK(embed_table_publish(store, p.table, NULL, NULL));
    test_fails(embed_table_publish(p.table, p.table, NULL, NULL), EMBED_ERR_ARG, "is a table");
    close_place(&p);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    place p;
    open_place(&p);
    embed_build_params params = {.struct_size = sizeof params, .dtype = EMBED_U8};
    assert_int_equal(embed_ngram_build(NULL, p.list, p.list, NULL, NULL), EMBED_ERR_ARG);
    assert_int_equal(embed_ngram_build(p.open, NULL, p.list, NULL, NULL), EMBED_ERR_ARG);
    test_fails(embed_ngram_build(p.open, p.list, p.list, NULL, &params), EMBED_ERR_ARG, "dtype");
    params = (embed_build_params){.struct_size = sizeof params, .combine = 2};
    test_fails(embed_ngram_build(p.open, p.list, p.list, NULL, &params), EMBED_ERR_ARG, "combine");
    params = (embed_build_params){.struct_size = 3};
    assert_int_equal(embed_ngram_build(p.open, p.list, p.list, NULL, &params), EMBED_ERR_ABI);
    params = (embed_build_params){.struct_size = sizeof params, .load = 0.95};
    (void)build(&p, "full", NULL);
    test_fails(embed_ngram_build(p.open, p.list, p.rows, NULL, &params), EMBED_ERR_ARG, "load");
    params = (embed_build_params){.struct_size = sizeof params, .part_bytes = 100};
    test_fails(embed_ngram_build(p.open, p.list, p.rows, NULL, &params), EMBED_ERR_ARG, "part");
    size_t n;
    assert_int_equal(embed_table_versions("/nowhere/at/all", NULL, 0, &n), EMBED_ERR_IO);
    assert_int_equal(embed_table_verify("/nowhere/at/all", NULL, NULL, NULL), EMBED_ERR_IO);
    assert_int_equal(embed_table_compact("/nowhere/at/all", "/nowhere/else", NULL), EMBED_ERR_IO);
    close_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_another_width_are_projected),
        cmocka_unit_test(halves_of_safetensors_are_widened_exactly),
        cmocka_unit_test(callers_may_cancel_and_go_on),
        cmocka_unit_test(one_publisher_at_a_time),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

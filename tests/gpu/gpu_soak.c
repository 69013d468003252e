/* gpu_soak: random batches for --minutes, on contexts of every type at once, with and without a
 * table: the right vectors, the same bits when a call is repeated, and no growth: of blocks, of the
 * process, of the device's memory in use. */
#define _XOPEN_SOURCE 700 /* sysconf */
#include "gpu/gpu_world.h"

#include <time.h>
#include <unistd.h>

#include "model/model.h"

enum { MOST = 96, CONTEXTS = 3, MIB = 1 << 20 };

static size_t pool; /* texts, of which there are MOST at most */

static double seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct use {
    double process, device; /* MiB */
    long blocks;
};

static struct use memory_in_use(const gpu_world *w) {
    struct use u = {0, 0, w->memory.live};
    int32_t n = 0;
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        if (fscanf(f, "%*s %ld", &pages) != 1)
            pages = 0;
        (void)fclose(f);
    }
    u.process = (double)pages * (double)sysconf(_SC_PAGESIZE) / MIB;
    TEST_OK(embed_device_count(&n));
    for (int32_t i = 0; i < n; i++) {
        embed_device d = {.struct_size = sizeof d};
        TEST_OK(embed_device_info(i, &d));
        if (d.kind == EMBED_DEVICE_CUDA && d.usable && d.memory_free != UINT64_MAX)
            u.device += (double)(d.memory_total - d.memory_free) / MIB;
    }
    return u;
}

/* One call with random texts of the pool, in random order, some of them twice. */
static void one_call(const gpu_world *w, embed_context *ctx, const float *want, double bound,
                     uint64_t *rng) {
    embed_text texts[MOST];
    size_t from[MOST];
    const size_t n = 1 + test_rand(rng) % pool, bytes = n * w->dim * sizeof(float);
    float *got = malloc(bytes), *wanted = malloc(bytes), *again = malloc(bytes);
    assert_true(got != NULL && wanted != NULL && again != NULL);
    for (size_t i = 0; i < n; i++) {
        from[i] = test_rand(rng) % pool;
        texts[i] = w->texts[from[i]];
        memcpy(wanted + i * w->dim, want + from[i] * w->dim, w->dim * sizeof *want);
    }
    TEST_OK(embed_encode(ctx, texts, n, NULL, got, n * w->dim));
    gpu_near("a random batch", w, got, wanted, n, bound);
    if (test_rand(rng) % 8 == 0) {
        TEST_OK(embed_encode(ctx, texts, n, NULL, again, n * w->dim));
        assert_memory_equal(got, again, bytes);
    }
    free(again);
    free(wanted);
    free(got);
}

struct soak {
    gpu_world w;
    embed_context *contexts[CONTEXTS];
    embed_table *table;
    float *want[2]; /* without and with the table, from the CPU */
    int attached[CONTEXTS];
    char dir[256];
    test_grams grams;
};

static void open_soak(struct soak *s) {
    static const int32_t dtypes[CONTEXTS] = {EMBED_F32, EMBED_F16, EMBED_BF16};
    char path[300];
    uint64_t rng = 5;
    tiny_spec spec = tiny_spec_dense();
    memset(s, 0, sizeof *s);
    pool = gpu_kind == EMBED_DEVICE_CUDA ? MOST : 8;
    if (gpu_kind == EMBED_DEVICE_CUDA) {
        spec.hidden = 384;
        spec.heads = 12;
        spec.inner = 1536;
    }
    gpu_world_open(&s->w, spec, pool, gpu_kind == EMBED_DEVICE_CUDA ? 200 : 30);
    test_grams_init(&s->grams, spec.hidden);
    test_grams_of_texts(&s->grams, s->w.model, s->w.texts, pool / 4, 3, 0.5, 0, &rng);
    test_dir_make(s->dir);
    (void)snprintf(path, sizeof path, "%s/table", s->dir);
    const test_table_spec table = {.dtype = EMBED_F16,
                                   .vocab = (int32_t)s->w.model->weights.word.rows};
    s->table = test_table_make(s->w.model, path, &table, &s->grams);
    embed_context *cpu = test_context_with(s->w.model, s->table, 0, 0);
    s->want[1] = gpu_encode(&s->w, cpu, pool);
    s->want[0] = s->w.want;
    embed_context_free(cpu);
    for (size_t i = 0; i < CONTEXTS; i++) /* the longest texts first: they make room for all */
        s->contexts[i] = gpu_context(&s->w, dtypes[i], NULL, i == 0 ? 64 : 0);
}

static void close_soak(struct soak *s) {
    for (size_t i = 0; i < CONTEXTS; i++)
        embed_context_free(s->contexts[i]);
    embed_table_free(s->table);
    free(s->want[1]);
    test_dir_remove(s->dir);
    test_grams_free(&s->grams);
    gpu_world_close(&s->w);
}

static void warm_up(struct soak *s) {
    for (size_t i = 0; i < CONTEXTS; i++)
        for (int round = 0; round < 4; round++) {
            s->attached[i] = round % 2 == 0;
            TEST_OK(embed_context_set_table(s->contexts[i], s->attached[i] ? s->table : NULL));
            free(gpu_encode(&s->w, s->contexts[i], pool));
        }
}

static void random_batches(void **state) {
    static const double bounds[CONTEXTS] = {2e-5, 9 * 0x1p-11, 9 * 0x1p-8};
    struct soak s;
    uint64_t rng = 99;
    long calls = 0;
    (void)state;
    open_soak(&s);
    warm_up(&s);
    const double start = seconds(), end = start + 60 * gpu_minutes;
    struct use before = memory_in_use(&s.w), after = before;
    int measured = 0;
    do {
        const size_t i = test_rand(&rng) % CONTEXTS;
        if (test_rand(&rng) % 16 == 0) {
            s.attached[i] = !s.attached[i];
            TEST_OK(embed_context_set_table(s.contexts[i], s.attached[i] ? s.table : NULL));
        }
        one_call(&s.w, s.contexts[i], s.want[s.attached[i]], bounds[i], &rng);
        calls++;
        /* libraries and the driver make themselves at home in the first tenth */
        if (!measured && seconds() > start + (end - start) / 10) {
            before = memory_in_use(&s.w);
            measured = 1;
        }
    } while (seconds() < end);
    for (size_t i = 0; i < CONTEXTS; i++)
        if (s.attached[i])
            TEST_OK(embed_context_set_table(s.contexts[i], NULL));
    after = memory_in_use(&s.w);
    print_message("%ld calls in %.1f s; process %.1f to %.1f MiB, device %.1f to %.1f MiB\n", calls,
                  seconds() - start, before.process, after.process, before.device, after.device);
    if (after.process > before.process + 32 || after.device > before.device + 8)
        fail_msg("memory grew: process %.1f to %.1f MiB, device %.1f to %.1f MiB", before.process,
                 after.process, before.device, after.device);
    close_soak(&s);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_batches)};
    const char *what;
    if (!gpu_arguments(argc, argv, &what))
        return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Same text, same bits: alone or among others, in any order, with any batch size, number of threads
 * and instruction set, from text or from ids, with rearranged weights or without. */
#include "support/handles.h"

#define TEXTS 50
#define DIM 48

static const tiny_spec *spec_of(int i) {
    static tiny_spec s[3];
    s[0] = tiny_spec_moe();
    s[1] = tiny_spec_gated();
    s[2] = tiny_spec_xlmr();
    return &s[i];
}

struct fixture {
    tiny_model m;
    embed_model *model;
    embed_text *texts;
    float want[TEXTS * DIM]; /* one thread, every text by itself */
};

static void encode(embed_context *ctx, const embed_text *texts, size_t n, float *out) {
    memset(out, 0xff, n * DIM * sizeof *out);
    TEST_OK(embed_encode(ctx, texts, n, NULL, out, n * DIM));
}

static void set_up(struct fixture *f, int i) {
    tiny_model_make(&f->m, spec_of(i));
    f->model = test_open(f->m.dir);
    f->texts = test_texts(&f->m, 5, TEXTS, 70);
    embed_context *ctx = test_context(f->model, 1, 0);
    for (size_t t = 0; t < TEXTS; t++)
        encode(ctx, f->texts + t, 1, f->want + t * DIM);
    embed_context_free(ctx);
}

static void tear_down(struct fixture *f) {
    test_texts_free(f->texts, TEXTS);
    embed_model_free(f->model);
    tiny_model_remove(&f->m);
}

static void same(const struct fixture *f, const float *got, const size_t *order, const char *what,
                 int value) {
    for (size_t t = 0; t < TEXTS; t++)
        if (memcmp(got + t * DIM, f->want + (order != NULL ? order[t] : t) * DIM,
                   DIM * sizeof *got) != 0)
            fail_msg("%s %d: text %zu differs", what, value, t);
}

static void batches_and_threads(void **state) {
    (void)state;
    const int batch_tokens[] = {1, 64, 100, 500, 4096, 8192};
    static float out[TEXTS * DIM];
    for (int i = 0; i < 3; i++) {
        static struct fixture f;
        set_up(&f, i);
        for (int b = 0; b < 6; b++) {
            embed_context *ctx = test_context(f.model, 2, batch_tokens[b]);
            encode(ctx, f.texts, TEXTS, out);
            same(&f, out, NULL, "batch_tokens", batch_tokens[b]);
            embed_context_free(ctx);
        }
        for (int threads = 1; threads <= 5; threads++) {
            embed_context *ctx = test_context(f.model, threads, 256);
            for (int repeat = 0; repeat < 2; repeat++) {
                encode(ctx, f.texts, TEXTS, out);
                same(&f, out, NULL, "threads", threads);
            }
            embed_context_free(ctx);
        }
        tear_down(&f);
    }
}

static void shuffled(void **state) {
    (void)state;
    static struct fixture f;
    static embed_text texts[TEXTS];
    static size_t order[TEXTS];
    static float out[TEXTS * DIM];
    uint64_t seed = 11;
    set_up(&f, 0);
    embed_context *ctx = test_context(f.model, 2, 700);
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < TEXTS; i++) {
            const size_t j = (size_t)(test_rand(&seed) % (i + 1));
            order[i] = i;
            const size_t swap = order[j];
            order[j] = i;
            order[i] = swap;
        }
        for (size_t i = 0; i < TEXTS; i++)
            texts[i] = f.texts[order[i]];
        encode(ctx, texts, TEXTS, out);
        same(&f, out, order, "round", round);
    }
    embed_context_free(ctx);
    tear_down(&f);
}

static void instruction_sets_and_packing(void **state) {
    (void)state;
    int tried = 0;
    static float out[TEXTS * DIM];
    for (int i = 0; i < 3; i++) {
        static struct fixture f;
        set_up(&f, i);
        for (int isa = EMBED_ISA_PORTABLE; isa <= EMBED_ISA_AVX512; isa++)
            for (uint64_t pack = 0; pack <= 1; pack++) {
                embed_model_params p = EMBED_MODEL_PARAMS_INIT;
                embed_model_info info;
                embed_model *model;
                p.isa = isa;
                p.pack_bytes = pack;
                const embed_status st = embed_model_open(&model, f.m.dir, &p);
                if (st == EMBED_ERR_UNSUPPORTED) {
                    print_message("this machine has no instruction set %d\n", isa);
                    continue;
                }
                TEST_OK(st);
                info.struct_size = sizeof info;
                TEST_OK(embed_model_get_info(model, &info));
                assert_string_equal(info.isa, isa == EMBED_ISA_PORTABLE ? "portable"
                                              : isa == EMBED_ISA_AVX2   ? "avx2"
                                                                        : "avx512");
                embed_context *ctx = test_context(model, 2, 0);
                encode(ctx, f.texts, TEXTS, out);
                same(&f, out, NULL, info.isa, (int)pack);
                tried++;
                embed_context_free(ctx);
                embed_model_free(model);
            }
        tear_down(&f);
    }
    assert_in_range(tried, 6, 18);
}

static void text_or_ids(void **state) {
    (void)state;
    static struct fixture f;
    static int32_t ids[TEXTS][128];
    static embed_ids rows[TEXTS];
    static float out[TEXTS * DIM];
    set_up(&f, 0);
    for (size_t t = 0; t < TEXTS; t++)
        rows[t] = (embed_ids){ids[t], test_ids(f.model, f.texts[t], ids[t], 128)};
    embed_context *ctx = test_context(f.model, 2, 333);
    TEST_OK(embed_encode_ids(ctx, rows, TEXTS, NULL, out, TEXTS * DIM));
    same(&f, out, NULL, "ids", 0);
    embed_context_free(ctx);
    tear_down(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_and_threads),
        cmocka_unit_test(shuffled),
        cmocka_unit_test(instruction_sets_and_packing),
        cmocka_unit_test(text_or_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

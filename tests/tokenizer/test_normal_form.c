/* Normalization forms over random texts of characters that reorder, compose and cluster: digests of
 * what the reference makes of the same texts, printed by tests/golden/unicode_digests.py. */
#include "tokenizer/tok_case.h"
#include "tokenizer/utf8.h"

static const uint32_t pool[] = {
    0x61,    0x41,    0x20,    0x0D,   0x0A,   0x09,    0x65,    0x6F,    0xC0,    0xE9,    0x130,
    0x1E9B,  0xFB01,  0x2460,  0xFDFA, 0x300,  0x301,   0x304,   0x307,   0x308,   0x30A,   0x31B,
    0x315,   0x316,   0x323,   0x327,  0x331,  0x334,   0x338,   0x344,   0x345,   0x591,   0x5B0,
    0x5C1,   0x64B,   0x651,   0x670,  0x93C,  0x94D,   0x915,   0x937,   0x958,   0x9BE,   0x9C7,
    0x9CB,   0xB47,   0xB56,   0xDCF,  0xDD9,  0xDDA,   0xF71,   0xF72,   0xF73,   0xF81,   0x1025,
    0x102E,  0x1100,  0x1112,  0x1161, 0x1175, 0x11A7,  0x11A8,  0x11C2,  0xAC00,  0xAC01,  0xD788,
    0xD7A3,  0x200B,  0x200D,  0x20D0, 0x2126, 0x212B,  0x3042,  0x304B,  0x3099,  0x309A,  0x30AB,
    0xFF76,  0xFF9E,  0xF900,  0xFA30, 0xFE0F, 0x600,   0xE0020, 0x1D15E, 0x1D165, 0x1D16D, 0x1F1E6,
    0x1F1E7, 0x1F468, 0x1F3FB, 0xA9,   0x2764, 0x11099, 0x110BA, 0x1133E, 0x11347, 0x1100,  0x16D63,
    0xE33,   0xEB3,   0x103D,  0x302E};

#define ROUNDS 40000

typedef struct fixture {
    emb_env env;
    emb_unicode *u;
    emb_norm_work work;
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.env = test_env();
    *state = &f;
    return emb_unicode_create(&f.u, &f.env) != EMBED_OK;
}

static int tear_down(void **state) {
    fixture *f = *state;
    emb_norm_work_free(&f->work, &f->env);
    emb_unicode_free(f->u, &f->env);
    return 0;
}

/* The script draws the length before the characters. */
static size_t random_text(uint64_t *seed, char text[64]) {
    const size_t chars = 1 + test_rand(seed) % 16;
    size_t n = 0;
    for (size_t i = 0; i < chars; i++)
        n += emb_utf8_encode(pool[test_rand(seed) % (sizeof pool / sizeof *pool)], text + n);
    return n;
}

static uint64_t digest(fixture *f, const emb_normalizer *normalizer) {
    uint64_t seed = 20261123, h = 0xcbf29ce484222325u;
    char text[64];
    for (int i = 0; i < ROUNDS; i++) {
        const size_t len = random_text(&seed, text);
        const char *out;
        size_t n, zero = 0;
        assert_int_equal(
            emb_normalize(normalizer, f->u, &f->env, &f->work, text, len, &zero, &out, &n),
            EMBED_OK);
        for (size_t k = 0; k < n; k++)
            h = (h ^ (unsigned char)out[k]) * 0x100000001b3u;
        h = (h ^ '\n') * 0x100000001b3u;
    }
    return h;
}

static void test_random_texts(void **state) {
    fixture *f = *state;
    static const struct {
        const char *json;
        uint64_t digest;
    } cases[] = {
        {"{\"type\":\"NFD\"}", 0x30fd23c9af428b95u},
        {"{\"type\":\"NFKD\"}", 0x1f088e4e8186c94bu},
        {"{\"type\":\"NFC\"}", 0xaf64e023beb2b171u},
        {"{\"type\":\"NFKC\"}", 0x311983b7bdb73080u},
        {"{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
         "\"strip_accents\":true,\"lowercase\":true}",
         0x20560de54d90c9e7u},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_normalizer normalizer;
        emb_json_doc *doc;
        assert_int_equal(
            emb_json_parse(&doc, &f->env, "t.json", cases[i].json, strlen(cases[i].json)), 0);
        assert_int_equal(emb_normalizer_load(&normalizer, &f->env, doc, emb_json_root(doc)), 0);
        const uint64_t got = digest(f, &normalizer);
        if (got != cases[i].digest)
            fail_msg("%s: got 0x%016llx", cases[i].json, (unsigned long long)got);
        emb_normalizer_free(&normalizer, &f->env);
        emb_json_free(doc);
    }
}

/* Clusters matter only here: the charsmap is asked for whole ones. */
static void test_random_clusters(void **state) {
    fixture *f = *state;
    emb_tokenizer *tok;
    assert_int_equal(
        emb_tokenizer_open(&tok, &f->env, TEST_DATA_DIR "/tokenizers/xlm-roberta/tokenizer.json"),
        EMBED_OK);
    const uint64_t got = digest(f, &tok->normalizer);
    emb_tokenizer_free(tok);
    if (got != 0xb75499cc54cb4d49u)
        fail_msg("got 0x%016llx", (unsigned long long)got);
}

/* A long run of marks is put in order in linear time, equal classes as they came. */
static void test_long_run(void **state) {
    fixture *f = *state;
    enum { MARKS = 400000 };
    emb_text_buf out = {NULL, 0, 0};
    emb_form_work work = {NULL, NULL, 0, 0};
    char *text = malloc(1 + MARKS * 2);
    size_t n = 0, zero = 0;
    assert_non_null(text);
    text[n++] = 'q';
    for (uint32_t i = 0; i < MARKS; i++) /* classes 230, 220, 1, 230 ... */
        n += emb_utf8_encode(i % 3 == 0 ? 0x300 + i % 2 : i % 3 == 1 ? 0x316 : 0x334, text + n);
    assert_int_equal(emb_form_apply(f->u, &f->env, EMB_NFD, &work, text, n, &out, &zero), 0);
    assert_int_equal(out.len, n);
    size_t len, seen = 0;
    unsigned last = 0;
    for (size_t at = 1; at < n; at += len, seen++) {
        const uint32_t c = emb_utf8_decode(out.data + at, &len);
        const unsigned ccc = emb_char_value(&f->u->ccc, c);
        assert_true(ccc >= last);
        if (ccc == 230) { /* 0x300 and 0x301 took turns */
            const size_t first = MARKS - (MARKS + 2) / 3;
            assert_int_equal(c, 0x300 + (seen - first) % 2);
        }
        last = ccc;
    }
    free(text);
    emb_free(&f->env, out.data);
    emb_form_work_free(&work, &f->env);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_texts),
        cmocka_unit_test(test_random_clusters),
        cmocka_unit_test(test_long_run),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

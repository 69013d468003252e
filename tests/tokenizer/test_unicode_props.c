/* Every step that looks at single characters, over all code points: each stands between an ASCII
 * letter and a combining mark. Digests of what the reference makes of the same texts, printed by
 * tests/golden/unicode_digests.py. */
#include "tokenizer/tok_case.h"
#include "tokenizer/utf8.h"

typedef struct fixture {
    emb_env env;
    emb_unicode *u;
    emb_norm_work norm;
    emb_pre_work pre;
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.env = test_env();
    *state = &f;
    return emb_unicode_create(&f.u, &f.env) != EMBED_OK;
}

static int tear_down(void **state) {
    fixture *f = *state;
    emb_norm_work_free(&f->norm, &f->env);
    emb_pre_work_free(&f->pre, &f->env);
    emb_unicode_free(f->u, &f->env);
    return 0;
}

static uint64_t fnv(uint64_t h, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return (h ^ '\n') * 0x100000001b3u;
}

/* The text for c, 0 for surrogates. */
static size_t text_of(uint32_t c, char text[16]) {
    size_t n = 1;
    if (c >= 0xd800 && c < 0xe000)
        return 0;
    text[0] = 'a';
    n += emb_utf8_encode(c, text + n);
    n += emb_utf8_encode(0x301, text + n);
    text[n++] = 'b';
    return n;
}

static emb_json_doc *parse(const fixture *f, const char *json) {
    emb_json_doc *doc;
    if (emb_json_parse(&doc, &f->env, "t.json", json, strlen(json)) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    return doc;
}

static void check_normalizer(fixture *f, const char *name, const emb_normalizer *normalizer,
                             uint64_t want) {
    uint64_t got = 0xcbf29ce484222325u;
    char text[16];
    for (uint32_t c = 1; c < 0x110000; c++) {
        const size_t len = text_of(c, text);
        const char *out;
        size_t n, zero = 0;
        if (len == 0)
            continue;
        assert_int_equal(
            emb_normalize(normalizer, f->u, &f->env, &f->norm, text, len, &zero, &out, &n),
            EMBED_OK);
        got = fnv(got, out, n);
    }
    if (got != want)
        fail_msg("%s: got digest 0x%016llx, want 0x%016llx", name, (unsigned long long)got,
                 (unsigned long long)want);
}

#define BERT(clean, chinese, accents, lower)                                                       \
    "{\"type\":\"BertNormalizer\",\"clean_text\":" clean ",\"handle_chinese_chars\":" chinese      \
    ",\"strip_accents\":" accents ",\"lowercase\":" lower "}"

static void test_normalizers(void **state) {
    fixture *f = *state;
    static const struct {
        const char *json;
        uint64_t digest;
    } cases[] = {
        {BERT("true", "false", "false", "false"), 0x87eb60423c9e9cc4u},
        {BERT("false", "true", "false", "false"), 0xdcf6b545b47c4fa7u},
        {BERT("false", "false", "true", "false"), 0x54189c36a0c3dc92u},
        {BERT("true", "true", "null", "true"), 0x980fda23520004fau},
        {"{\"type\":\"Lowercase\"}", 0xdee73de10e682614u},
        {"{\"type\":\"StripAccents\"}", 0xfa51e424d6cbe91fu},
        {"{\"type\":\"Nmt\"}", 0x06b5662404137338u},
        {"{\"type\":\"NFD\"}", 0x18a8c1c9c2d29b57u},
        {"{\"type\":\"NFKD\"}", 0xf962a71609b4c78cu},
        {"{\"type\":\"NFC\"}", 0xff14d60846892edeu},
        {"{\"type\":\"NFKC\"}", 0xf852beb7f05584d3u},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_normalizer normalizer;
        emb_json_doc *doc = parse(f, cases[i].json);
        assert_int_equal(emb_normalizer_load(&normalizer, &f->env, doc, emb_json_root(doc)), 0);
        check_normalizer(f, cases[i].json, &normalizer, cases[i].digest);
        emb_normalizer_free(&normalizer, &f->env);
        emb_json_free(doc);
    }
}

static void test_charsmap(void **state) {
    fixture *f = *state;
    emb_tokenizer *tok;
    assert_int_equal(
        emb_tokenizer_open(&tok, &f->env, TEST_DATA_DIR "/tokenizers/xlm-roberta/tokenizer.json"),
        EMBED_OK);
    check_normalizer(f, "XLM-R", &tok->normalizer, 0x32d2442228c38570u);
    emb_tokenizer_free(tok);
}

static embed_status hash_word(void *user, const char *word, size_t len) {
    *(uint64_t *)user = fnv(*(uint64_t *)user, word, len);
    return EMBED_OK;
}

static void test_pretokenizers(void **state) {
    fixture *f = *state;
    static const struct {
        const char *json;
        uint64_t digest;
    } cases[] = {
        {"{\"type\":\"WhitespaceSplit\"}", 0x4e23c4300e1e7e62u},
        {"{\"type\":\"Whitespace\"}", 0x80bb7439b9584b80u},
        {"{\"type\":\"BertPreTokenizer\"}", 0xcca0b89c33395128u},
        {"{\"type\":\"Digits\",\"individual_digits\":true}", 0x02ea6c242c6714afu},
        {"{\"type\":\"Punctuation\"}", 0xceee196bfe7c94bdu},
    };
    char text[16];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_pretokenizer pre;
        uint64_t got = 0xcbf29ce484222325u;
        emb_word_sink sink = {hash_word, &got, 0};
        emb_json_doc *doc = parse(f, cases[i].json);
        assert_int_equal(emb_pretokenizer_load(&pre, doc, emb_json_root(doc)), EMBED_OK);
        for (uint32_t c = 1; c < 0x110000; c++)
            assert_int_equal(
                emb_pretokenize(&pre, f->u, &f->env, &f->pre, text, text_of(c, text), 0, &sink),
                EMBED_OK);
        if (got != cases[i].digest)
            fail_msg("%s: got digest 0x%016llx", cases[i].json, (unsigned long long)got);
        emb_json_free(doc);
    }
}

static void test_allocation_failures(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_unicode *u;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_unicode_create(&u, &env);
        assert_int_equal(st, a.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        assert_int_equal(u == NULL, a.failed);
        emb_unicode_free(u, &env);
        assert_int_equal(a.live, 0);
        if (!a.failed)
            return;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalizers),
        cmocka_unit_test(test_charsmap),
        cmocka_unit_test(test_pretokenizers),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

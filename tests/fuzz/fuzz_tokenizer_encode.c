/* fuzz_tokenizer_encode: bytes as a text, through several small tokenizers. Input: which tokenizer,
 * where a prefix ends, how many tokens at most, then the text. */
#include "fuzz/fuzz.h"

#include "tokenizer/tokenizer.h"

static const char *const files[] = {
    "golden/tokenizers/wordpiece.json",           "golden/tokenizers/unigram.json",
    "golden/tokenizers/unigram-collapse.json",    "fuzz/corpus/tokenizer_json/bytes_and_added",
    "fuzz/corpus/tokenizer_json/wordpiece_added", "fuzz/corpus/tokenizer_json/precompiled"};
#define FILES (sizeof files / sizeof *files)

static emb_tokenizer *toks[FILES];
static emb_tok_scratch *scratch;

/* Tokenise into a copy of the ids, for free(). */
static embed_status encode(const emb_tokenizer *tok, embed_text text,
                           const emb_tok_options *options, int32_t **copy, size_t *n,
                           int32_t *truncated) {
    const int32_t *ids = NULL;
    const embed_status st = emb_tokenizer_encode(tok, scratch, text, options, &ids, n, truncated);
    fuzz_check_status(st);
    *copy = malloc((st == EMBED_OK ? *n : 0) * sizeof **copy + 1);
    FUZZ_CHECK(*copy);
    if (st == EMBED_OK && *n)
        memcpy(*copy, ids, *n * sizeof **copy);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!scratch) {
        const emb_env env = fuzz_env();
        for (size_t i = 0; i < FILES; i++)
            FUZZ_CHECK(emb_tokenizer_open(&toks[i], &env, files[i]) == EMBED_OK);
        FUZZ_CHECK(emb_tok_scratch_create(&scratch, &env) == EMBED_OK);
    }
    if (size < 3)
        return 0;
    const emb_tokenizer *tok = toks[data[0] % FILES];
    const embed_text text = {(const char *)data + 3, size - 3};
    const size_t split = text.len ? data[1] % (text.len + 1) : 0;
    const size_t special = (size_t)emb_tokenizer_special_count(tok);
    emb_tok_options options = {{NULL, 0}, 0, 0};
    int32_t *whole, *other, truncated;
    size_t n = 0, m = 0;

    FUZZ_CHECK(encode(tok, text, &options, &whole, &n, &truncated) == EMBED_OK);
    FUZZ_CHECK(!truncated && n >= special);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(whole[i] >= 0 && whole[i] < emb_tokenizer_vocab(tok));

    /* A prefix and the rest are one string. */
    options.prefix = (embed_text){text.ptr, split};
    const embed_text rest = {text.ptr + split, text.len - split};
    FUZZ_CHECK(encode(tok, rest, &options, &other, &m, &truncated) == EMBED_OK);
    FUZZ_CHECK(m == n && memcmp(other, whole, n * sizeof *whole) == 0);
    free(other);
    options.prefix = (embed_text){NULL, 0};

    /* Cutting keeps the first ids of the text and every special token. */
    const size_t limit = special + 1 + data[2] % 20;
    options.max_tokens = (int64_t)limit;
    FUZZ_CHECK(encode(tok, text, &options, &other, &m, &truncated) == EMBED_OK);
    FUZZ_CHECK(m == (n < limit ? n : limit) && truncated == (n > limit));
    size_t same = 0, tail = 0;
    while (same < m && other[same] == whole[same])
        same++;
    while (tail < m - same && other[m - 1 - tail] == whole[n - 1 - tail])
        tail++;
    FUZZ_CHECK(same + tail == m);
    free(other);
    options.max_tokens = 0;

    /* Without special tokens there are just so many fewer. */
    options.flags = EMBED_NO_SPECIAL_TOKENS;
    FUZZ_CHECK(encode(tok, text, &options, &other, &m, &truncated) == EMBED_OK);
    FUZZ_CHECK(m + special == n);
    free(other);

    /* Refusing invalid UTF-8 changes nothing else. */
    options.flags = EMBED_UTF8_REFUSE;
    const embed_status st = encode(tok, text, &options, &other, &m, &truncated);
    FUZZ_CHECK(st == EMBED_ERR_UTF8 ||
               (st == EMBED_OK && m == n && memcmp(other, whole, n * sizeof *whole) == 0));
    free(other);
    free(whole);
    return 0;
}

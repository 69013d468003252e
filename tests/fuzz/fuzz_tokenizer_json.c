/* fuzz_tokenizer_json: bytes as a tokenizer.json; one that opens then has to tokenise. */
#include "fuzz/fuzz.h"

#include "tokenizer/tokenizer.h"

static const char hostile[] =
    "\xe4\xb8\xad\xe6\x96\x87\xf0\x9f\x98\x80\xef\xac\x81\xe0\xa4\x95\xe0\xa5\x8d \xff\x00 1\r\n\t";
static const embed_text texts[] = {
    {NULL, 0},
    {" ", 1},
    {"a", 1},
    {"Hello  World! <s>[SEP] caf\xc3\xa9 e\xcc\x81 \xe2\x96\x81\xe2\x96\x81 ab", 42},
    {hostile, sizeof hostile - 1}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const emb_env env = fuzz_env();
    emb_tokenizer *tok = NULL;
    emb_tok_scratch *scratch = NULL;
    const embed_status st = emb_tokenizer_open(&tok, &env, fuzz_file(data, size));
    fuzz_check_status(st);
    FUZZ_CHECK((st == EMBED_OK) == (tok != NULL));
    if (!tok)
        return 0;
    const int32_t vocab = emb_tokenizer_vocab(tok);
    FUZZ_CHECK(vocab >= 0 && emb_tokenizer_max_length(tok) >= 0);
    FUZZ_CHECK(emb_tokenizer_id(tok, "a", 1) < vocab);
    FUZZ_CHECK(emb_tok_scratch_create(&scratch, &env) == EMBED_OK);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const emb_tok_options options = {{"q: ", i % 2 ? 3 : 0}, i == 3 ? 40 : 0, 0};
        const int32_t *ids = NULL;
        size_t n = 0;
        int32_t truncated = -1;
        const embed_status encoded =
            emb_tokenizer_encode(tok, scratch, texts[i], &options, &ids, &n, &truncated);
        fuzz_check_status(encoded);
        if (encoded != EMBED_OK)
            continue;
        for (size_t k = 0; k < n; k++)
            FUZZ_CHECK(ids[k] >= 0 && ids[k] < vocab);
        FUZZ_CHECK(truncated == 0 || (truncated == 1 && options.max_tokens));
    }
    emb_tok_scratch_free(scratch);
    emb_tokenizer_free(tok);
    return 0;
}

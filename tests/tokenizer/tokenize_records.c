/* Tokenise records: what tests/golden/exhaustive_tokenizer.py drives.
 * usage: tokenize_records TOKENIZER_JSON < RECORDS > IDS
 * A record is a length (4 bytes, little-endian) and that many bytes of text; its ids come out as a
 * count and the ids, 4 bytes each. */
#include <stdio.h>
#include <stdlib.h>

#include "tokenizer/tokenizer.h"

static int fail(const char *what) {
    fprintf(stderr, "tokenize_records: %s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    emb_env env;
    emb_tokenizer *tok = NULL;
    emb_tok_scratch *scratch = NULL;
    char *text = NULL;
    uint32_t len, capacity = 0;
    if (argc != 2)
        return fail("expected one argument, the tokenizer.json");
    if (emb_env_init(&env, NULL, NULL, NULL) != EMBED_OK ||
        emb_tokenizer_open(&tok, &env, argv[1]) != EMBED_OK ||
        emb_tok_scratch_create(&scratch, &env) != EMBED_OK)
        return fail(emb_fail_message());
    while (fread(&len, sizeof len, 1, stdin) == 1) {
        if (len > capacity) {
            capacity = len;
            free(text);
            text = malloc(capacity);
            if (!text)
                return fail("out of memory");
        }
        if (fread(text, 1, len, stdin) != len)
            return fail("the last record is cut");
        const emb_tok_options options = {{NULL, 0}, 0, 0};
        const int32_t *ids;
        size_t n;
        int32_t truncated;
        if (emb_tokenizer_encode(tok, scratch, (embed_text){text, len}, &options, &ids, &n,
                                 &truncated) != EMBED_OK)
            return fail(emb_fail_message());
        const uint32_t count = (uint32_t)n;
        if (fwrite(&count, sizeof count, 1, stdout) != 1 ||
            fwrite(ids, sizeof *ids, n, stdout) != n)
            return fail("cannot write");
    }
    free(text);
    emb_tok_scratch_free(scratch);
    emb_tokenizer_free(tok);
    return fflush(stdout) ? fail("cannot write") : 0;
}

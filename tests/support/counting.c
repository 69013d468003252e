#define _POSIX_C_SOURCE 200809L
#include "support/counting.h"

#include <unistd.h>

#include "ngram/counts_file.h"

emb_ngram_counter_params counting_params(const char *output, int32_t k, uint64_t min_count,
                                         uint64_t documents) {
    emb_ngram_counter_params p = {
        .output = output, .memory = 64 << 20, .save_seconds = 1e9, .threads = 1};
    memset(&p.identity, 0, sizeof p.identity);
    (void)snprintf(p.identity.tokenizer, sizeof p.identity.tokenizer,
                   "00112233445566778899aabbccddeeff");
    p.identity.vocab = COUNTING_VOCAB;
    p.identity.hidden = 64;
    p.identity.k = k;
    p.identity.min_count = min_count;
    p.identity.min_documents = documents > 0 ? documents : 1;
    p.identity.with_documents = documents > 0;
    emb_ngram_count_identify(&p.identity, "stream", 6);
    return p;
}

/* End of the text that starts at `from`. */
static size_t text_end(const uint32_t *positions, size_t n, size_t from) {
    while (from < n && positions[from] != EMB_NGRAM_END)
        from++;
    return from < n ? from + 1 : n;
}

embed_status counting_run(const emb_env *env, const emb_ngram_counter_params *params,
                          const uint32_t *positions, size_t n, emb_ngram_counter_result *result) {
    embed_status st = EMBED_OK;
    emb_ngram_counter *c = NULL;
    emb_ngram_counter_result own;
    int complete;
    EMB_TRY(emb_ngram_counter_create(&c, env, params));
    size_t at = 0;
    for (uint64_t skip = emb_ngram_counter_texts(c, &complete); skip > 0; skip--)
        at = text_end(positions, n, at);
    while (at < n && !complete) {
        const size_t from = at;
        uint64_t texts = 0;
        for (; at < n && texts < 300; texts++)
            at = text_end(positions, n, at);
        EMB_TRY(emb_ngram_counter_append(c, positions + from, at - from, texts, at - from));
    }
    EMB_TRY(emb_ngram_counter_finish(c, result != NULL ? result : &own));
fail:
    emb_ngram_counter_free(c);
    return st;
}

void counting_check(const char *path, const naive_ngrams *want, int with_documents) {
    const emb_env env = test_env();
    emb_counts_reader r;
    emb_counts_record record;
    assert_int_equal(emb_counts_open(&r, &env, path, 100), EMBED_OK);
    for (size_t i = 0; i < want->n; i++) {
        const naive_ngram *g = &want->items[i];
        assert_int_equal(emb_counts_next(&r, &record), EMBED_OK);
        assert_int_equal(record.length, g->length);
        assert_memory_equal(record.ids, g->ids, (size_t)g->length * sizeof *g->ids);
        assert_int_equal(record.count, g->count);
        assert_int_equal(record.documents, with_documents ? g->documents : 0);
    }
    assert_int_equal(emb_counts_next(&r, &record), EMBED_OK);
    assert_int_equal(record.length, 0);
    emb_counts_close(&r);
}

char *counting_read(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *size = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

int counting_same(const char *path, const char *bytes, size_t size) {
    size_t found;
    char *read = counting_read(path, &found);
    const int same = read != NULL && found == size && memcmp(read, bytes, size) == 0;
    free(read);
    return same;
}

int counting_exists(const char *path) {
    return access(path, F_OK) == 0;
}

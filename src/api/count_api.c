#include <string.h>

#include "api/params.h"
#include "model/count_texts.h"
#include "model/prompt.h"

#define DEFAULT_MEMORY ((uint64_t)1 << 30)
#define DEFAULT_K 5
#define DEFAULT_MIN_COUNT 5
#define SAVE_SECONDS 10.0 /* of work that an interruption may cost, the scan at work apart */

static embed_status check_params(embed_count_params *p, const char *output) {
    if (output == NULL || output[0] == '\0')
        return emb_fail(EMBED_ERR_ARG, "output: expected a path, found %s",
                        output == NULL ? "NULL" : "an empty string");
    if (p->reserved != 0 || p->job.reserved[0] != 0 || p->job.reserved[1] != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_count_params.reserved: expected 0");
    if ((p->flags & ~EMBED_UTF8_REFUSE) != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_count_params.flags: unknown bits 0x%x",
                        p->flags & ~EMBED_UTF8_REFUSE);
    p->k = p->k == 0 ? DEFAULT_K : p->k;
    p->min_count = p->min_count == 0 ? DEFAULT_MIN_COUNT : p->min_count;
    if (p->k < 2 || p->k > EMB_NGRAM_MAX_K)
        return emb_fail(EMBED_ERR_ARG, "embed_count_params.k: expected 2 to %d, found %d",
                        EMB_NGRAM_MAX_K, p->k);
    if (p->role < EMBED_ROLE_NONE || p->role > EMBED_ROLE_DOCUMENT)
        return emb_fail(EMBED_ERR_ARG, "embed_count_params.role: expected 0 to %d, found %d",
                        EMBED_ROLE_DOCUMENT, p->role);
    if (p->prefix == NULL && p->prefix_len > 0)
        return emb_fail(EMBED_ERR_ARG, "embed_count_params.prefix: NULL with prefix_len %zu",
                        p->prefix_len);
    p->job.threads = p->job.threads == 0 ? emb_usable_cpus() : p->job.threads;
    if (p->job.threads < 1 || p->job.threads > 1024)
        return emb_fail(EMBED_ERR_ARG, "embed_job.threads: expected 0 to 1024, found %d",
                        p->job.threads);
    if (p->job.threads > EMB_NGRAM_MAX_THREADS)
        p->job.threads = EMB_NGRAM_MAX_THREADS;
    p->job.memory = p->job.memory == 0 ? DEFAULT_MEMORY : p->job.memory;
    return EMBED_OK;
}

/* The prompt changes the tokens, so it is a part of what the input is. */
static embed_status identify_input(emb_ngram_count_identity *identity, const emb_env *env,
                                   const char *input, embed_text prompt) {
    const size_t n = input != NULL ? strlen(input) : 0;
    size_t bytes;
    char *whole;
    embed_status st = emb_add(n, prompt.len + 1, "input", &bytes);
    if (st == EMBED_OK)
        st = emb_alloc(env, bytes, (void **)&whole);
    if (st != EMBED_OK)
        return st;
    if (n > 0)
        memcpy(whole, input, n);
    whole[n] = '\0';
    if (prompt.len > 0)
        memcpy(whole + n + 1, prompt.ptr, prompt.len);
    emb_ngram_count_identify(identity, whole, bytes);
    emb_free(env, whole);
    return EMBED_OK;
}

embed_status embed_ngram_counter_create(embed_ngram_counter **out, embed_model *model,
                                        const char *output, const embed_count_params *params) {
    embed_status st = EMBED_OK;
    embed_count_params p;
    emb_env env;
    emb_tok_options tokenize = {{NULL, 0}, 0, EMBED_NO_SPECIAL_TOKENS};
    if (out == NULL)
        return emb_fail(EMBED_ERR_ARG, "out: NULL");
    *out = NULL;
    if (model == NULL)
        return emb_fail(EMBED_ERR_ARG, "model: NULL");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_count_params"));
    EMB_TRY(check_params(&p, output));
    EMB_TRY(emb_env_init(&env, p.job.allocator, NULL, NULL));
    tokenize.flags |= p.flags;
    if (p.prefix != NULL)
        tokenize.prefix = (embed_text){p.prefix, p.prefix_len};
    else
        EMB_TRY(emb_prompt_for_role(&tokenize.prefix, model, p.role));
    emb_ngram_counter_params c = {
        .output = output,
        .temp_dir = p.job.temp_dir,
        .memory = p.job.memory,
        .input_bytes = p.input_bytes,
        .save_seconds = SAVE_SECONDS,
        .threads = p.job.threads,
        .resume = p.job.resume,
        .report = p.job.report,
        .user = p.job.user,
    };
    memset(&c.identity, 0, sizeof c.identity);
    c.identity.k = p.k;
    c.identity.min_count = p.min_count;
    c.identity.min_documents = p.min_documents > 0 ? p.min_documents : 1;
    c.identity.with_documents = p.min_documents > 0;
    EMB_TRY(identify_input(&c.identity, &env, p.input, tokenize.prefix));
    EMB_TRY(emb_count_texts_create(out, model, &env, &c, &tokenize));
fail:
    return st;
}

void embed_ngram_counter_free(embed_ngram_counter *counter) {
    emb_count_texts_free(counter);
}

embed_status embed_ngram_counter_position(const embed_ngram_counter *counter, uint64_t *texts,
                                          int32_t *complete) {
    int all;
    if (counter == NULL || texts == NULL || complete == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL",
                        counter == NULL ? "counter"
                        : texts == NULL ? "texts"
                                        : "complete");
    *texts = emb_count_texts_done(counter, &all);
    *complete = all;
    return EMBED_OK;
}

embed_status embed_ngram_counter_add(embed_ngram_counter *counter, const embed_text *texts,
                                     size_t n) {
    if (counter == NULL || (texts == NULL && n > 0))
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", counter == NULL ? "counter" : "texts");
    for (size_t i = 0; i < n; i++)
        if (texts[i].ptr == NULL && texts[i].len > 0)
            return emb_fail(EMBED_ERR_ARG, "texts[%zu].ptr: NULL", i);
    return emb_count_texts_add(counter, texts, NULL, n);
}

embed_status embed_ngram_counter_add_ids(embed_ngram_counter *counter, const embed_ids *rows,
                                         size_t n) {
    if (counter == NULL || (rows == NULL && n > 0))
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", counter == NULL ? "counter" : "rows");
    for (size_t i = 0; i < n; i++)
        if (rows[i].ptr == NULL && rows[i].len > 0)
            return emb_fail(EMBED_ERR_ARG, "rows[%zu].ptr: NULL", i);
    return emb_count_texts_add(counter, NULL, rows, n);
}

embed_status embed_ngram_counter_finish(embed_ngram_counter *counter, embed_count_result *result) {
    emb_ngram_counter_result found;
    embed_count_result ours;
    if (counter == NULL)
        return emb_fail(EMBED_ERR_ARG, "counter: NULL");
    const embed_status st = emb_count_texts_finish(counter, &found);
    if (st != EMBED_OK || result == NULL)
        return st;
    memset(&ours, 0, sizeof ours);
    ours.struct_size = sizeof ours;
    ours.texts = found.texts;
    ours.tokens = found.tokens;
    ours.in_memory = found.in_memory;
    ours.seconds[1] = found.seconds[0];
    for (int32_t n = 2; n <= EMB_NGRAM_MAX_K; n++) {
        ours.ngrams[n] = found.ngrams[n];
        ours.seconds[n] = found.seconds[n];
        ours.passes[n] = (int32_t)found.passes[n];
    }
    return emb_params_write(result, &ours, sizeof ours, "embed_count_result");
}

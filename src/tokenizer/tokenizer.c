#include "tokenizer/tokenizer_impl.h"

#include "tokenizer/utf8.h"

int32_t emb_tokenizer_vocab(const emb_tokenizer *tok) {
    return tok->vocab;
}

int32_t emb_tokenizer_id(const emb_tokenizer *tok, const char *token, size_t len) {
    const emb_model_vocab vocab = emb_tokenizer_model(tok);
    const int32_t id = emb_added_find(&tok->added, token, len);
    return id >= 0 ? id : vocab.find(vocab.model, token, len);
}

int32_t emb_tokenizer_special_count(const emb_tokenizer *tok) {
    return (int32_t)(tok->post.before.n + tok->post.after.n);
}

int32_t emb_tokenizer_ends_special(const emb_tokenizer *tok) {
    return tok->post.after.n > 0;
}

int32_t emb_tokenizer_max_length(const emb_tokenizer *tok) {
    return tok->max_length;
}

/* Insert into the ascending list unless it is there; few tokens are special. */
static void put_id(int32_t *ids, int32_t *n, int32_t id) {
    int32_t at = *n;
    while (at > 0 && ids[at - 1] > id)
        at--;
    if (at > 0 && ids[at - 1] == id)
        return;
    for (int32_t i = (*n)++; i > at; i--)
        ids[i] = ids[i - 1];
    ids[at] = id;
}

embed_status emb_tokenizer_special_ids(const emb_tokenizer *tok, const emb_env *env, int32_t **ids,
                                       int32_t *n) {
    const emb_postprocessor *post = &tok->post;
    void *block;
    *n = 0;
    *ids = NULL;
    const embed_status st =
        emb_new_array(env, tok->added.n + post->before.n + post->after.n, sizeof **ids, &block);
    if (st != EMBED_OK)
        return st;
    *ids = block;
    for (size_t i = 0; i < tok->added.n; i++)
        if (tok->added.tokens[i].special && !tok->added.tokens[i].replaced)
            put_id(*ids, n, tok->added.tokens[i].id);
    for (size_t i = 0; i < post->before.n; i++)
        put_id(*ids, n, post->before.ids[i]);
    for (size_t i = 0; i < post->after.n; i++)
        put_id(*ids, n, post->after.ids[i]);
    return EMBED_OK;
}

/* ------------------------------------------------------------------------------------- scratch */

embed_status emb_tok_scratch_create(emb_tok_scratch **out, const emb_env *env) {
    void *block;
    *out = NULL;
    const embed_status st = emb_new(env, sizeof(emb_tok_scratch), &block);
    if (st != EMBED_OK)
        return st;
    *out = block;
    (*out)->env = *env;
    return EMBED_OK;
}

void emb_tok_scratch_free(emb_tok_scratch *s) {
    if (s == NULL)
        return;
    const emb_env env = s->env;
    emb_free(&env, s->input.data);
    emb_norm_work_free(&s->norm, &env);
    emb_pre_work_free(&s->pre, &env);
    emb_unigram_work_free(&s->unigram, &env);
    emb_free(&env, s->ids.ids);
    emb_free(&env, s);
}

uint64_t emb_tok_scratch_bytes(const emb_tok_scratch *s) {
    uint64_t bytes = sizeof *s;
    bytes += s->input.cap + s->norm.text[0].cap + s->norm.text[1].cap;
    bytes += (s->norm.form.cap + s->norm.form.sorted_cap) * sizeof(emb_form_char);
    for (size_t i = 0; i < EMB_PRE_MAX; i++)
        bytes += s->pre.text[i].cap;
    bytes += s->unigram.cap * sizeof(emb_unigram_cell) + s->ids.cap * sizeof(int32_t);
    return bytes;
}

/* ------------------------------------------------------------------------------------ encoding */

/* One encoding under way. */
typedef struct encoding {
    const emb_tokenizer *tok;
    emb_tok_scratch *scratch;
    emb_word_sink sink;
    size_t limit; /* ids wanted, those before the text included; more means the text is cut */
} encoding;

static void check_limit(encoding *e) {
    e->sink.stop = e->scratch->ids.n > e->limit;
}

static embed_status encode_word(void *user, const char *word, size_t len) {
    encoding *e = user;
    emb_tok_scratch *s = e->scratch;
    const embed_status st =
        e->tok->kind == EMB_WORDPIECE
            ? emb_wordpiece_encode(&e->tok->wordpiece, &s->env, word, len, &s->ids)
            : emb_unigram_encode(&e->tok->unigram, &s->env, &s->unigram, word, len, &s->ids);
    check_limit(e);
    return st;
}

static embed_status encode_token(encoding *e, int32_t id) {
    const embed_status st = emb_ids_push(&e->scratch->ids, &e->scratch->env, id);
    check_limit(e);
    return st;
}

/* A stretch of raw text between added tokens: normalize, find the tokens that are looked for in
 * normalized text, and cut the rest into words. */
static embed_status encode_stretch(encoding *e, const char *text, size_t n, size_t zero) {
    const emb_tokenizer *tok = e->tok;
    emb_tok_scratch *s = e->scratch;
    embed_status st;
    size_t start, end;
    int32_t id;
    EMB_TRY(emb_normalize(&tok->normalizer, tok->unicode, &s->env, &s->norm, text, n, &zero, &text,
                          &n));
    emb_added_scan scan = emb_added_begin(&tok->added, 1, tok->unicode, text, n);
    while (!e->sink.stop && emb_added_next(&scan, &start, &end, &id)) {
        EMB_TRY(emb_pretokenize(&tok->pretokenizer, tok->unicode, &s->env, &s->pre, text + start,
                                end - start, zero > start ? zero - start : 0, &e->sink));
        if (id >= 0 && !e->sink.stop)
            EMB_TRY(encode_token(e, id));
    }
fail:
    return st;
}

static embed_status encode_text(encoding *e, const char *text, size_t n) {
    const emb_tokenizer *tok = e->tok;
    embed_status st = EMBED_OK;
    size_t start, end;
    int32_t id;
    emb_added_scan scan = emb_added_begin(&tok->added, 0, tok->unicode, text, n);
    while (!e->sink.stop && emb_added_next(&scan, &start, &end, &id)) {
        if (end > start) {
            const int first = start == 0 && tok->pretokenizer.uses_zero;
            EMB_TRY(
                encode_stretch(e, text + start, end - start, first ? emb_utf8_len(text[0]) : 0));
        }
        if (id >= 0 && !e->sink.stop)
            EMB_TRY(encode_token(e, id));
    }
fail:
    return st;
}

/* Prefix and text as one well-formed string: the caller's own bytes where they are that already. */
static embed_status prepare(emb_tok_scratch *s, embed_text text, const emb_tok_options *options,
                            const char **out, size_t *n) {
    embed_status st;
    size_t room;
    *out = text.ptr;
    *n = text.len;
    s->input.len = 0;
    if (options->prefix.len > 0) {
        EMB_TRY(emb_add(options->prefix.len, text.len, "text", n));
        EMB_TRY(emb_text_reserve(&s->input, &s->env, *n));
        emb_text_put(&s->input, options->prefix.ptr, options->prefix.len);
        if (text.len > 0)
            emb_text_put(&s->input, text.ptr, text.len);
        *out = s->input.data;
    }
    const size_t valid = emb_utf8_valid(*out, *n);
    if (valid == *n)
        return EMBED_OK;
    if (options->flags & EMBED_UTF8_REFUSE)
        return emb_fail(EMBED_ERR_UTF8, "%s: expected UTF-8, found byte 0x%02x at offset %zu",
                        valid < options->prefix.len ? "prefix" : "text",
                        (unsigned)(unsigned char)(*out)[valid],
                        valid - (valid < options->prefix.len ? 0 : options->prefix.len));
    /* The repaired copy goes behind what is there. */
    EMB_TRY(emb_mul(*n, 3, "text", &room));
    EMB_TRY(emb_text_reserve(&s->input, &s->env, room));
    const char *from = options->prefix.len > 0 ? s->input.data : text.ptr;
    char *to = s->input.data + s->input.len;
    *n = emb_utf8_repair(from, *n, to);
    *out = to;
fail:
    return st;
}

embed_status emb_tokenizer_encode(const emb_tokenizer *tok, emb_tok_scratch *scratch,
                                  embed_text text, const emb_tok_options *options,
                                  const int32_t **ids, size_t *n, int32_t *truncated) {
    static const emb_tok_options defaults = {{NULL, 0}, 0, 0};
    embed_status st;
    const char *input;
    size_t len;
    encoding e = {tok, scratch, {encode_word, NULL, 0}, SIZE_MAX};
    e.sink.user = &e;
    if (options == NULL)
        options = &defaults;
    const int special = (options->flags & EMBED_NO_SPECIAL_TOKENS) == 0;
    const emb_id_list *before = &tok->post.before, *after = &tok->post.after;
    emb_id_list *list = &scratch->ids;
    *ids = NULL;
    *n = 0;
    *truncated = 0;
    if (options->max_tokens != 0) {
        const int64_t reserved = special ? (int64_t)(before->n + after->n) : 0;
        if (options->max_tokens < reserved || options->max_tokens < 0)
            return emb_fail(EMBED_ERR_ARG,
                            "max_tokens: expected at least the %lld special tokens, found %lld",
                            (long long)reserved, (long long)options->max_tokens);
        e.limit = (size_t)options->max_tokens - (special ? after->n : 0);
    }
    list->n = 0;
    EMB_TRY(emb_ids_reserve(list, &scratch->env, before->n + after->n + 1));
    for (size_t i = 0; special && i < before->n; i++)
        list->ids[list->n++] = before->ids[i];
    EMB_TRY(prepare(scratch, text, options, &input, &len));
    EMB_TRY(encode_text(&e, input, len));
    if (list->n > e.limit) {
        list->n = e.limit;
        *truncated = 1;
    }
    EMB_TRY(emb_ids_reserve(list, &scratch->env, after->n));
    for (size_t i = 0; special && i < after->n; i++)
        list->ids[list->n++] = after->ids[i];
    *ids = list->ids;
    *n = list->n;
fail:
    return st;
}

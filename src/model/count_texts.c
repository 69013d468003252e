#include "model/count_texts.h"

#include <stdatomic.h>
#include <stdio.h>

#include "model/fingerprint.h"

#define GROUPS_PER_THREAD 4
#define MOST_WINDOW                                                                                \
    ((size_t)4 << 20) /* bytes of text worked on at once; a longer text is alone                   \
                       */
#define LEAST_WINDOW ((size_t)16 << 10)

/* Neighbouring texts: the work of one task. */
typedef struct group {
    size_t first, n; /* texts of the call */
    uint64_t bytes;  /* of input, about */
    uint32_t *positions;
    size_t used, capacity;
    embed_status status;
    char message[512];
} group;

struct embed_ngram_counter {
    emb_env env;
    embed_model *model;
    emb_ngram_counter *counter;
    emb_tok_options tokenize;
    char *prefix;      /* copy of its prefix */
    uint64_t *special; /* bit set over the vocabulary */
    int32_t vocab, failed;
    emb_tok_scratch **scratch; /* [threads] */
    group *groups;             /* [n_groups] */
    size_t threads, n_groups, window;
    const embed_text *texts; /* of the call */
    const embed_ids *ids;
    atomic_int faults;
};

static embed_status mark_special(embed_ngram_counter *c) {
    const size_t words = ((size_t)c->vocab + 63) / 64;
    const embed_model *m = c->model;
    const embed_status st = emb_new_array(&c->env, words, sizeof *c->special, (void **)&c->special);
    for (int32_t i = 0; st == EMBED_OK && i < m->n_special && m->special[i] < c->vocab; i++)
        c->special[m->special[i] / 64] |= (uint64_t)1 << (m->special[i] % 64);
    return st;
}

embed_status emb_count_texts_create(embed_ngram_counter **out, embed_model *model,
                                    const emb_env *env, const emb_ngram_counter_params *params,
                                    const emb_tok_options *tokenize) {
    embed_status st = EMBED_OK;
    embed_ngram_counter *c = NULL;
    emb_ngram_counter_params p = *params;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *c, (void **)&c));
    c->env = *env;
    c->model = model;
    emb_model_retain(model);
    c->tokenize = *tokenize;
    if (tokenize->prefix.len > 0) {
        EMB_TRY(emb_strdup(env, tokenize->prefix.ptr, tokenize->prefix.len, &c->prefix));
        c->tokenize.prefix.ptr = c->prefix;
    }
    atomic_init(&c->faults, 0);
    c->vocab = (int32_t)model->weights.word.rows;
    EMB_TRY(mark_special(c));
    emb_fingerprint_write(model->tokenizer_hash, p.identity.tokenizer);
    p.identity.vocab = c->vocab;
    p.identity.hidden = model->config.encoder.hidden;
    c->threads = (size_t)p.threads;
    c->n_groups = c->threads * GROUPS_PER_THREAD;
    const uint64_t window = p.memory / 32;
    c->window = window > MOST_WINDOW    ? MOST_WINDOW
                : window < LEAST_WINDOW ? LEAST_WINDOW
                                        : (size_t)window;
    EMB_TRY(emb_new_array(env, c->threads, sizeof *c->scratch, (void **)&c->scratch));
    for (size_t i = 0; i < c->threads; i++)
        EMB_TRY(emb_tok_scratch_create(&c->scratch[i], env));
    EMB_TRY(emb_new_array(env, c->n_groups, sizeof *c->groups, (void **)&c->groups));
    EMB_TRY(emb_ngram_counter_create(&c->counter, env, &p));
    *out = c;
    return EMBED_OK;
fail:
    emb_count_texts_free(c);
    return st;
}

static void free_buffers(embed_ngram_counter *c) {
    for (size_t i = 0; c->groups != NULL && i < c->n_groups; i++) {
        emb_free(&c->env, c->groups[i].positions);
        c->groups[i] = (group){0};
    }
    for (size_t i = 0; c->scratch != NULL && i < c->threads; i++) {
        emb_tok_scratch_free(c->scratch[i]);
        c->scratch[i] = NULL;
    }
}

void emb_count_texts_free(embed_ngram_counter *c) {
    if (c == NULL)
        return;
    const emb_env env = c->env;
    emb_ngram_counter_free(c->counter);
    free_buffers(c);
    emb_free(&env, c->groups);
    emb_free(&env, c->scratch);
    emb_free(&env, c->special);
    emb_free(&env, c->prefix);
    emb_model_release(c->model);
    emb_free(&env, c);
}

uint64_t emb_count_texts_done(const embed_ngram_counter *c, int *complete) {
    return emb_ngram_counter_texts(c->counter, complete);
}

/* -------------------------------------------------------------------------------------- adding */

static embed_status put_text(embed_ngram_counter *c, group *g, const int32_t *ids, size_t n) {
    size_t need;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_add(g->used, n, "tokens", &need));
    EMB_TRY(emb_add(need, 1, "tokens", &need));
    EMB_TRY(emb_grow(&c->env, (void **)&g->positions, &g->capacity, need, sizeof *g->positions));
    uint32_t *out = g->positions + g->used;
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = (uint32_t)ids[i];
        if (id >= (uint32_t)c->vocab)
            return emb_fail(EMBED_ERR_ARG, "token %zu: expected an id below %d, found %d", i,
                            c->vocab, ids[i]);
        out[i] = c->special[id / 64] >> (id % 64) & 1 ? EMB_NGRAM_BREAK : id;
    }
    out[n] = EMB_NGRAM_END;
    g->used = need;
fail:
    return st;
}

static embed_status put_item(embed_ngram_counter *c, group *g, size_t i, emb_tok_scratch *scratch) {
    const int32_t *ids;
    int32_t truncated;
    size_t n;
    if (c->ids != NULL)
        return put_text(c, g, c->ids[i].ptr, c->ids[i].len);
    const embed_status st = emb_tokenizer_encode(c->model->tokenizer, scratch, c->texts[i],
                                                 &c->tokenize, &ids, &n, &truncated);
    return st != EMBED_OK ? st : put_text(c, g, ids, n);
}

static void run_group(void *arg, size_t task, int thread) {
    embed_ngram_counter *c = arg;
    group *g = &c->groups[task];
    g->used = 0;
    g->status = EMBED_OK;
    for (size_t i = 0; i < g->n && !atomic_load(&c->faults); i++) {
        g->status = put_item(c, g, g->first + i, c->scratch[thread]);
        if (g->status == EMBED_OK)
            continue;
        (void)snprintf(g->message, sizeof g->message, "text %zu: %s", g->first + i,
                       emb_fail_sentence());
        atomic_store(&c->faults, 1);
        return;
    }
}

/* With the end of its line; an id takes some 5 bytes as text and never more than 12. */
static size_t item_bytes(const embed_ngram_counter *c, size_t i) {
    return 1 + (c->ids != NULL ? c->ids[i].len * 5 : c->texts[i].len);
}

/* The next texts, some window of bytes, shared out to the groups; returns how many groups. */
static size_t share_out(embed_ngram_counter *c, size_t *next, size_t n) {
    const size_t each = c->window / c->n_groups;
    size_t groups = 0, window = 0;
    while (*next < n && groups < c->n_groups && window < c->window) {
        group *g = &c->groups[groups++];
        size_t bytes = 0;
        g->first = *next;
        while (*next < n && bytes < each)
            bytes += item_bytes(c, (*next)++);
        g->n = *next - g->first;
        g->bytes = bytes;
        window += bytes;
    }
    return groups;
}

static embed_status add_all(embed_ngram_counter *c, size_t n) {
    emb_pool *pool = emb_ngram_counter_pool(c->counter);
    embed_status st = EMBED_OK;
    for (size_t next = 0; next < n;) {
        const size_t groups = share_out(c, &next, n);
        emb_pool_run(pool, groups, run_group, c);
        for (size_t i = 0; i < groups; i++)
            if (c->groups[i].status != EMBED_OK)
                return emb_fail(c->groups[i].status, "%s", c->groups[i].message);
        for (size_t i = 0; i < groups; i++)
            EMB_TRY(emb_ngram_counter_append(c->counter, c->groups[i].positions, c->groups[i].used,
                                             c->groups[i].n, c->groups[i].bytes));
    }
fail:
    return st;
}

static embed_status check_usable(const embed_ngram_counter *c) {
    return c->failed
               ? emb_fail(EMBED_ERR_ARG, "counter: an earlier call failed or ended it; free it "
                                         "and resume with a new one")
               : EMBED_OK;
}

embed_status emb_count_texts_add(embed_ngram_counter *c, const embed_text *texts,
                                 const embed_ids *ids, size_t n) {
    embed_status st = check_usable(c);
    int complete;
    (void)emb_count_texts_done(c, &complete);
    if (st != EMBED_OK || complete)
        return st;
    c->texts = texts;
    c->ids = ids;
    st = add_all(c, n);
    c->failed = st != EMBED_OK;
    return st;
}

embed_status emb_count_texts_finish(embed_ngram_counter *c, emb_ngram_counter_result *result) {
    embed_status st = check_usable(c);
    if (st != EMBED_OK)
        return st;
    free_buffers(c); /* the memory is the tables' now */
    st = emb_ngram_counter_finish(c->counter, result);
    c->failed = 1;
    return st;
}

#include "ngram/ngram_sample.h"

#include <string.h>

/* Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014): splitmix64. */
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void emb_ngram_sample_init(emb_ngram_sample *s, const emb_env *env, uint64_t max_positions) {
    *s = (emb_ngram_sample){.env = *env};
    s->max_positions = max_positions < INT32_MAX ? max_positions : INT32_MAX;
}

void emb_ngram_sample_clear(emb_ngram_sample *s) {
    emb_free(&s->env, s->ids);
    emb_free(&s->env, s->ends);
    emb_free(&s->env, s->numbers);
    emb_free(&s->env, s->held);
    s->ids = NULL;
    s->ends = s->numbers = NULL;
    s->held = NULL;
    s->tokens = s->texts = s->ids_capacity = s->ends_capacity = s->numbers_capacity = 0;
}

static int kept(const emb_ngram_sample *s, uint64_t number) {
    return s->limit == 0 || mix(number) < s->limit;
}

/* Keep half of what was kept so far. */
static void thin(emb_ngram_sample *s) {
    size_t texts = 0, tokens = 0, start = 0;
    s->limit = s->limit ? s->limit / 2 : UINT64_C(1) << 63;
    for (size_t i = 0; i < s->texts; i++) {
        const size_t end = s->ends[i], n = end - start;
        if (kept(s, s->numbers[i])) {
            memmove(s->ids + tokens, s->ids + start, n * sizeof *s->ids);
            tokens += n;
            s->numbers[texts] = s->numbers[i];
            s->ends[texts++] = tokens;
        }
        start = end;
    }
    s->texts = texts;
    s->tokens = tokens;
}

void emb_ngram_sample_thin(emb_ngram_sample *s) {
    s->max_positions /= 2;
    thin(s);
}

embed_status emb_ngram_sample_add(emb_ngram_sample *s, const int32_t *ids, size_t n) {
    embed_status st = EMBED_OK;
    const uint64_t number = s->seen_texts;
    if (n >= s->max_positions)
        return emb_fail(EMBED_ERR_ARG,
                        "memory: text %llu alone has %zu tokens, expected room for more than %llu; "
                        "allow more memory or cut the texts",
                        (unsigned long long)number, n, (unsigned long long)s->max_positions);
    while (kept(s, number) && s->tokens + s->texts + n >= s->max_positions)
        thin(s);
    if (kept(s, number)) {
        EMB_TRY(
            emb_grow(&s->env, (void **)&s->ids, &s->ids_capacity, s->tokens + n, sizeof *s->ids));
        EMB_TRY(
            emb_grow(&s->env, (void **)&s->ends, &s->ends_capacity, s->texts + 1, sizeof *s->ends));
        EMB_TRY(emb_grow(&s->env, (void **)&s->numbers, &s->numbers_capacity, s->texts + 1,
                         sizeof *s->numbers));
        if (n > 0)
            memcpy(s->ids + s->tokens, ids, n * sizeof *ids);
        s->tokens += n;
        s->numbers[s->texts] = number;
        s->ends[s->texts++] = s->tokens;
    }
    s->seen_texts++;
    s->seen_tokens += n;
fail:
    return st;
}

/* Another draw than kept()'s. */
static uint64_t held_key(uint64_t number) {
    return mix(~number);
}

/* The texts whose key is below the result are `n`: keys differ, since mix() is a bijection. */
static uint64_t threshold(const emb_ngram_sample *s, size_t n) {
    uint64_t low = 0; /* fewer than n keys are below it */
    for (uint64_t bit = UINT64_C(1) << 63; bit != 0; bit >>= 1) {
        size_t below = 0;
        for (size_t i = 0; i < s->texts; i++)
            below += held_key(s->numbers[i]) < (low | bit);
        if (below < n)
            low |= bit;
    }
    return low + 1;
}

embed_status emb_ngram_sample_split(emb_ngram_sample *s, double share) {
    if (s->texts < 2)
        return emb_fail(EMBED_ERR_ARG,
                        "sample: expected at least 2 texts, one to count and one to look up in, "
                        "found %zu",
                        s->texts);
    size_t n = (size_t)(share * (double)s->texts + 0.5);
    n = n < 1 ? 1 : n > s->texts - 1 ? s->texts - 1 : n;
    emb_free(&s->env, s->held);
    s->held = NULL;
    const embed_status st = emb_new_array(&s->env, s->texts, 1, (void **)&s->held);
    const uint64_t below = threshold(s, n);
    for (size_t i = 0; st == EMBED_OK && i < s->texts; i++)
        s->held[i] = held_key(s->numbers[i]) < below;
    return st;
}

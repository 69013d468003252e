#include "model/device_choices.h"

#include <stdio.h>
#include <string.h>

#define MARGIN 1.1f /* how much faster the library must be: our own kernel keeps bits */

void emb_choice_settle(emb_choice *c, int32_t policy, const float us[2]) {
    c->own_us = us[0];
    c->library_us = us[1];
    c->strategy = EMBED_PRODUCTS_OWN;
    if (policy == EMBED_PRODUCTS_LIBRARY || us[1] * MARGIN < us[0])
        c->strategy = EMBED_PRODUCTS_LIBRARY;
    else if (us[0] <= 0 && us[1] <= 0)
        (void)snprintf(c->reason, sizeof c->reason, "the device has no clock to time it by");
}

void emb_choice_refused(emb_choice *c) {
    c->strategy = EMBED_PRODUCTS_OWN;
    (void)snprintf(c->reason, sizeof c->reason, "%s", emb_fail_sentence());
}

static embed_status make(emb_device_choices **out, embed_model *m, const emb_device *device,
                         const emb_choices_key *key) {
    embed_status st = EMBED_OK;
    emb_device_choices *c = NULL;
    EMB_TRY(emb_new(&m->base, sizeof *c, (void **)&c));
    (void)snprintf(c->hardware, sizeof c->hardware, "%s", emb_device_facts_of(device)->name);
    c->backend = emb_device_table(device);
    c->key = *key;
    c->env = m->base;
    (void)pthread_mutex_init(&c->mutex, NULL);
    c->next = m->choices;
    m->choices = c;
    *out = c;
fail:
    return st;
}

embed_status emb_device_choices_get(emb_device_choices **out, embed_model *m,
                                    const emb_device *device, const emb_choices_key *key) {
    embed_status st = EMBED_OK;
    const emb_device_facts *facts = emb_device_facts_of(device);
    (void)pthread_mutex_lock(&m->homes_mutex);
    emb_device_choices *c = m->choices;
    while (c != NULL &&
           (c->backend != emb_device_table(device) || memcmp(&c->key, key, sizeof *key) != 0 ||
            strncmp(c->hardware, facts->name, sizeof c->hardware) != 0))
        c = c->next;
    if (c == NULL)
        st = make(&c, m, device, key);
    (void)pthread_mutex_unlock(&m->homes_mutex);
    *out = c;
    return st;
}

void emb_device_choices_free(embed_model *m) {
    while (m->choices != NULL) {
        emb_device_choices *c = m->choices;
        m->choices = c->next;
        (void)pthread_mutex_destroy(&c->mutex);
        emb_free(&m->base, c->items);
        emb_free(&m->base, c);
    }
}

const emb_choice *emb_device_choices_find(const emb_device_choices *c, int32_t what, int64_t rows,
                                          int64_t n, int64_t k) {
    for (size_t i = 0; i < c->n; i++) {
        const emb_choice *at = &c->items[i];
        if (at->what == what && at->rows == rows && at->n == n && at->k == k)
            return at;
    }
    return NULL;
}

embed_status emb_device_choices_add(emb_device_choices *c, const emb_choice *choice) {
    const embed_status st =
        emb_grow(&c->env, (void **)&c->items, &c->capacity, c->n + 1, sizeof *c->items);
    if (st != EMBED_OK)
        return st;
    c->items[c->n++] = *choice;
    emb_log(&c->env, EMBED_LOG_INFO,
            "%s: %s of %lld rows, %lld x %lld: %s, %.1f us by our kernel, %.1f by the library%s%s",
            c->hardware, choice->what == EMB_CHOICE_ATTENTION ? "attention" : "product",
            (long long)choice->rows, (long long)choice->n, (long long)choice->k,
            choice->strategy == EMBED_PRODUCTS_LIBRARY ? "the library" : "our kernel",
            (double)choice->own_us, (double)choice->library_us,
            choice->reason[0] != '\0' ? ": " : "", choice->reason);
    return EMBED_OK;
}

int emb_device_choices_read(emb_device_choices *c, size_t i, emb_choice *choice, size_t *n) {
    (void)pthread_mutex_lock(&c->mutex);
    const int there = i < c->n;
    *n = c->n;
    if (there)
        *choice = c->items[i];
    (void)pthread_mutex_unlock(&c->mutex);
    return there;
}

#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_service.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define IDLE 4 /* fetchers that are kept */

struct embed_table_ticket {
    emb_env env;
    embed_table *table;
    uint32_t *rows;
    size_t n;
    int done;
    embed_status status;
    char message[512];
    embed_table_ticket *next;
};

struct emb_ngram_service {
    emb_env env;
    embed_table *table;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    emb_ngram_fetcher *idle[IDLE];
    int n_idle;
    embed_table_ticket *first, **last; /* the queue */
    pthread_t thread;
    int started, stop;
    pid_t pid; /* the process the thread runs in */
};

embed_status emb_ngram_service_create(emb_ngram_service **out, embed_table *table) {
    emb_ngram_service *s;
    *out = NULL;
    const embed_status st = emb_new(&table->env, sizeof *s, (void **)&s);
    if (st != EMBED_OK)
        return st;
    s->env = table->env;
    s->table = table;
    s->pid = getpid();
    s->last = &s->first;
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->wake, NULL);
    (void)pthread_cond_init(&s->done, NULL);
    *out = s;
    return EMBED_OK;
}

void emb_ngram_service_free(emb_ngram_service *s) {
    if (s == NULL)
        return;
    const int ours = s->pid == getpid(); /* a child of fork() has no thread to wait for */
    if (ours && s->started) {
        (void)pthread_mutex_lock(&s->lock);
        s->stop = 1;
        (void)pthread_cond_signal(&s->wake);
        (void)pthread_mutex_unlock(&s->lock);
        (void)pthread_join(s->thread, NULL);
    }
    for (int i = 0; i < s->n_idle; i++)
        emb_ngram_fetcher_free(s->idle[i]);
    if (ours) {
        (void)pthread_cond_destroy(&s->done);
        (void)pthread_cond_destroy(&s->wake);
        (void)pthread_mutex_destroy(&s->lock);
    }
    const emb_env env = s->env;
    emb_free(&env, s);
}

embed_status emb_ngram_service_borrow(emb_ngram_service *s, emb_ngram_fetcher **out) {
    *out = NULL;
    (void)pthread_mutex_lock(&s->lock);
    if (s->n_idle > 0)
        *out = s->idle[--s->n_idle];
    (void)pthread_mutex_unlock(&s->lock);
    return *out != NULL ? EMBED_OK
                        : emb_ngram_fetcher_create(out, &s->env, s->table, EMB_NGRAM_FETCH_ROWS);
}

void emb_ngram_service_return(emb_ngram_service *s, emb_ngram_fetcher *f) {
    (void)pthread_mutex_lock(&s->lock);
    if (s->n_idle < IDLE) {
        s->idle[s->n_idle++] = f;
        f = NULL;
    }
    (void)pthread_mutex_unlock(&s->lock);
    emb_ngram_fetcher_free(f);
}

/* --------------------------------------------------------------------------------- the helper */

static embed_status fetch_all(emb_ngram_service *s, const embed_table_ticket *ticket) {
    embed_status st = EMBED_OK;
    emb_ngram_fetcher *f = NULL;
    EMB_TRY(emb_ngram_service_borrow(s, &f));
    for (size_t at = 0; at < ticket->n && st == EMBED_OK; at += EMB_NGRAM_FETCH_ROWS) {
        const size_t left = ticket->n - at;
        st = emb_ngram_fetch_rows(f, ticket->rows + at,
                                  left < EMB_NGRAM_FETCH_ROWS ? left : EMB_NGRAM_FETCH_ROWS, NULL,
                                  NULL, NULL);
    }
    emb_ngram_service_return(s, f);
fail:
    return st;
}

static void *helper_main(void *arg) {
    emb_ngram_service *s = arg;
    (void)pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        embed_table_ticket *ticket = s->first;
        if (ticket == NULL) {
            (void)pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        s->first = ticket->next;
        if (s->first == NULL)
            s->last = &s->first;
        (void)pthread_mutex_unlock(&s->lock);
        ticket->status = fetch_all(s, ticket);
        if (ticket->status != EMBED_OK) /* messages belong to threads: carry it over */
            (void)snprintf(ticket->message, sizeof ticket->message, "%s", emb_fail_sentence());
        (void)pthread_mutex_lock(&s->lock);
        ticket->done = 1;
        (void)pthread_cond_broadcast(&s->done);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Under the lock. The thread blocks all signals: handlers belong to the application's threads. */
static embed_status start_helper(emb_ngram_service *s) {
    sigset_t all, old;
    if (s->started)
        return EMBED_OK;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    const int error = pthread_create(&s->thread, NULL, helper_main, s);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error != 0)
        return emb_fail(EMBED_ERR_THREAD, "%s: no thread to fetch rows ahead (error %d)",
                        s->table->path, error);
    s->started = 1;
    return EMBED_OK;
}

static void free_ticket(embed_table_ticket *ticket) {
    if (ticket == NULL)
        return;
    const emb_env env = ticket->env;
    emb_free(&env, ticket->rows);
    emb_free(&env, ticket);
}

embed_status emb_ngram_service_prefetch(emb_ngram_service *s, const int64_t *rows, size_t n,
                                        embed_table_ticket **out) {
    embed_status st = EMBED_OK;
    embed_table_ticket *ticket = NULL;
    *out = NULL;
    EMB_TRY(emb_new(&s->env, sizeof *ticket, (void **)&ticket));
    ticket->env = s->env;
    ticket->table = s->table;
    ticket->n = n;
    EMB_TRY(emb_new_array(&s->env, n, sizeof *ticket->rows, (void **)&ticket->rows));
    for (size_t i = 0; i < n; i++)
        ticket->rows[i] = rows[i] < 0 ? EMB_NGRAM_NO_ROW : (uint32_t)rows[i];
    (void)pthread_mutex_lock(&s->lock);
    st = start_helper(s);
    if (st == EMBED_OK) {
        emb_ngram_table_retain(s->table);
        *s->last = ticket;
        s->last = &ticket->next;
        (void)pthread_cond_signal(&s->wake);
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (st != EMBED_OK)
        goto fail;
    *out = ticket;
    return EMBED_OK;
fail:
    free_ticket(ticket);
    return st;
}

embed_status emb_ngram_service_wait(embed_table_ticket *ticket) {
    embed_table *t = ticket->table;
    emb_ngram_service *s = t->service;
    (void)pthread_mutex_lock(&s->lock);
    while (!ticket->done)
        (void)pthread_cond_wait(&s->done, &s->lock);
    (void)pthread_mutex_unlock(&s->lock);
    embed_status st = ticket->status;
    if (st != EMBED_OK)
        st = emb_fail(st, "%s", ticket->message);
    free_ticket(ticket);
    emb_ngram_table_release(t);
    return st;
}

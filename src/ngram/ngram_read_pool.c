#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_read.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define THREADS 16         /* reads in flight */
#define DEPTH 64           /* requests that are waiting, in flight or done: no thread runs dry */
#define TOGETHER 16        /* results for which the caller is woken */
#define STACK (256u << 10) /* threads do nothing but call pread */

/* Slots on their way: first in, first out. */
typedef struct fifo {
    uint32_t slots[DEPTH];
    uint32_t first, n;
} fifo;

typedef struct pool_queue {
    emb_ngram_queue queue;
    emb_env env;
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    emb_ngram_request requests[DEPTH];
    int32_t results[DEPTH];
    fifo queued, done;
    uint32_t reading; /* requests that threads are at */
    uint32_t idle;    /* threads that sleep */
    pthread_t threads[THREADS];
    uint32_t started;
    pid_t pid; /* the process the threads run in */
    int waiting, stop;
} pool_queue;

static void push(fifo *f, uint32_t slot) {
    f->slots[(f->first + f->n++) % DEPTH] = slot;
}

static uint32_t pop(fifo *f) {
    const uint32_t slot = f->slots[f->first];
    f->first = (f->first + 1) % DEPTH;
    f->n--;
    return slot;
}

/* A few results at once are cheaper than a switch of threads for each. */
static int enough(const pool_queue *p) {
    return p->done.n >= TOGETHER || (p->done.n > 0 && p->queued.n + p->reading == 0);
}

static void *pool_main(void *arg) {
    pool_queue *p = arg;
    (void)pthread_mutex_lock(&p->lock);
    for (;;) {
        p->idle++;
        while (p->queued.n == 0 && !p->stop)
            (void)pthread_cond_wait(&p->work, &p->lock);
        p->idle--;
        if (p->stop)
            break;
        const uint32_t slot = pop(&p->queued);
        p->reading++;
        const emb_ngram_request q = p->requests[slot];
        (void)pthread_mutex_unlock(&p->lock);
        const ssize_t n = pread(q.fd, q.into, q.bytes, (off_t)q.offset);
        const int32_t result = n < 0 ? -errno : (int32_t)n;
        (void)pthread_mutex_lock(&p->lock);
        p->results[slot] = result;
        push(&p->done, slot);
        p->reading--;
        if (p->waiting && enough(p))
            (void)pthread_cond_signal(&p->ready);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_submit(emb_ngram_queue *queue, uint32_t slot, const emb_ngram_request *q) {
    pool_queue *p = (pool_queue *)(void *)queue;
    (void)pthread_mutex_lock(&p->lock);
    p->requests[slot] = *q;
    push(&p->queued, slot);
    if (p->idle > 0)
        (void)pthread_cond_signal(&p->work);
    (void)pthread_mutex_unlock(&p->lock);
}

static embed_status pool_wait(emb_ngram_queue *queue, uint32_t *slot, int32_t *result) {
    pool_queue *p = (pool_queue *)(void *)queue;
    (void)pthread_mutex_lock(&p->lock);
    p->waiting = 1;
    while (p->done.n == 0)
        (void)pthread_cond_wait(&p->ready, &p->lock);
    p->waiting = 0;
    *slot = pop(&p->done);
    *result = p->results[*slot];
    (void)pthread_mutex_unlock(&p->lock);
    return EMBED_OK;
}

static void pool_free(emb_ngram_queue *queue) {
    pool_queue *p = (pool_queue *)(void *)queue;
    const emb_env env = p->env;
    if (p->pid == getpid()) { /* a child of fork() has none of the threads to wait for */
        (void)pthread_mutex_lock(&p->lock);
        p->stop = 1;
        (void)pthread_cond_broadcast(&p->work);
        (void)pthread_mutex_unlock(&p->lock);
        for (uint32_t i = 0; i < p->started; i++)
            (void)pthread_join(p->threads[i], NULL);
        (void)pthread_cond_destroy(&p->ready);
        (void)pthread_cond_destroy(&p->work);
        (void)pthread_mutex_destroy(&p->lock);
    }
    emb_free(&env, p);
}

/* As many as the system gives, one at least. They block all signals: handlers belong to the
 * application's threads. */
static int start_threads(pool_queue *p) {
    sigset_t all, old;
    pthread_attr_t attr;
    int error = pthread_attr_init(&attr);
    if (error != 0)
        return error;
    (void)pthread_attr_setstacksize(&attr, STACK);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    while (p->started < THREADS && error == 0) {
        error = pthread_create(&p->threads[p->started], &attr, pool_main, p);
        p->started += error == 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    return p->started > 0 ? 0 : error;
}

embed_status emb_ngram_queue_pool(emb_ngram_queue **out, const emb_env *env) {
    pool_queue *p;
    *out = NULL;
    const embed_status st = emb_new(env, sizeof *p, (void **)&p);
    if (st != EMBED_OK)
        return st;
    p->env = *env;
    p->pid = getpid();
    p->queue = (emb_ngram_queue){DEPTH, pool_submit, pool_wait, pool_free};
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->work, NULL);
    (void)pthread_cond_init(&p->ready, NULL);
    const int error = start_threads(p);
    if (error != 0) {
        pool_free(&p->queue);
        return emb_fail(EMBED_ERR_THREAD, "no thread to read with (error %d)", error);
    }
    *out = &p->queue;
    return EMBED_OK;
}

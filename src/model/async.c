#define _POSIX_C_SOURCE 200809L
#include "model/async.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "model/device_forward.h"
#include "model/prompt.h"
#include "model/runner.h"

enum state {
    WAITING, /* for its turn */
    RUNNING,
    ENQUEUED, /* all of it is on its way to the device, and `rows` recorded */
    ENDED,    /* the status is known; the callback runs */
    DONE      /* nobody but the owner of the handle knows it any more */
};

struct embed_pending {
    emb_env env;
    embed_pending *next; /* in the queue */
    embed_context *ctx;  /* not after DONE */
    emb_async_call call;
    pid_t pid;
    pthread_t worker; /* which runs it */
    atomic_int cancel;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    enum state state;
    embed_status status;
    int32_t orphan;          /* nobody owns the handle: freed when done */
    emb_event *after, *rows; /* what is on the caller's stream; that all rows are there */
    char message[1024];
};

/* ------------------------------------------------------------------------------------ handles */

static void destroy(embed_pending *p) {
    const emb_env env = p->env;
    emb_event_free(p->after);
    emb_event_free(p->rows);
    (void)pthread_cond_destroy(&p->changed);
    (void)pthread_mutex_destroy(&p->mutex);
    emb_free(&env, p);
}

static void set_state(embed_pending *p, enum state state) {
    (void)pthread_mutex_lock(&p->mutex);
    p->state = state;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->mutex);
}

/* In the thread of the context: what is behind it on the stream follows the last row. */
static embed_status on_its_way(void *user) {
    embed_pending *p = user;
    const embed_status st = emb_device_output_mark(p->ctx->device, p->rows);
    if (st == EMBED_OK)
        set_state(p, ENQUEUED);
    return st;
}

/* The output starts after what is on the caller's stream by now. */
static embed_status order_after(embed_pending *p, emb_device *device, void *native) {
    embed_status st = EMBED_OK;
    emb_stream *stream = NULL;
    EMB_TRY(emb_stream_adopt(&stream, device, native));
    EMB_TRY(emb_event_create(&p->after, device, 0));
    EMB_TRY(emb_event_record(p->after, stream));
    p->call.job.after = p->after;
fail:
    emb_stream_free(stream);
    return st;
}

static embed_status prepare_output(embed_pending *p) {
    embed_status st = EMBED_OK;
    emb_device *device = p->ctx->device->device;
    EMB_TRY(emb_event_create(&p->rows, device, 0));
    p->call.job.enqueued = on_its_way;
    p->call.job.enqueued_user = p;
    if (p->call.stream != NULL)
        EMB_TRY(order_after(p, device, p->call.stream));
fail:
    return st;
}

static embed_status make(embed_pending **out, embed_context *ctx, const emb_async_call *call) {
    embed_status st = EMBED_OK;
    embed_pending *p = NULL;
    pthread_condattr_t monotonic;
    EMB_TRY(emb_new(&ctx->env, sizeof *p, (void **)&p));
    p->env = ctx->env;
    p->ctx = ctx;
    p->call = *call;
    p->pid = getpid();
    p->call.job.cancel = &p->cancel;
    atomic_init(&p->cancel, 0);
    (void)pthread_mutex_init(&p->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    if (call->job.on_device)
        EMB_TRY(prepare_output(p));
    *out = p;
    return EMBED_OK;
fail:
    if (p != NULL)
        destroy(p);
    return st;
}

/* ------------------------------------------------------------------------- the context's thread */

static embed_status run(embed_context *ctx, emb_async_call *call) {
    embed_status st = EMBED_OK;
    emb_job *job = &call->job;
    emb_context_begin(ctx);
    if (job->rows == NULL)
        EMB_TRY(emb_prompt_skip(&job->pooling.skip, ctx->model, ctx->tokenizers[0],
                                job->tokenize.prefix, call->flags));
    EMB_TRY(emb_encode_run(ctx, job));
fail:
    emb_context_end(ctx);
    return st;
}

/* The message comes to whoever waits. */
static void end(embed_pending *p, embed_status st) {
    (void)pthread_mutex_lock(&p->mutex);
    p->status = st;
    if (st != EMBED_OK)
        (void)snprintf(p->message, sizeof p->message, "%s", emb_fail_sentence());
    emb_event_free(p->after);
    emb_event_free(p->rows);
    p->after = p->rows = NULL;
    p->state = ENDED;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->mutex);
}

static void release(embed_pending *p) {
    (void)pthread_mutex_lock(&p->mutex);
    const int orphan = p->orphan;
    p->state = DONE;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->mutex);
    if (orphan)
        destroy(p);
}

/* The context is free for other calls before the last one's owner learns that it has ended. */
static void leave(embed_context *ctx) {
    emb_background *b = &ctx->background;
    (void)pthread_mutex_lock(&b->mutex);
    b->running = NULL;
    if (b->first == NULL) {
        b->active = 0;
        atomic_flag_clear(&ctx->busy);
    }
    (void)pthread_mutex_unlock(&b->mutex);
}

static embed_pending *take(emb_background *b) {
    (void)pthread_mutex_lock(&b->mutex);
    while (b->first == NULL && !b->stop)
        (void)pthread_cond_wait(&b->wake, &b->mutex);
    embed_pending *p = b->first;
    if (p != NULL) {
        b->first = p->next;
        b->running = p;
        if (b->first == NULL)
            b->last = NULL;
    }
    (void)pthread_mutex_unlock(&b->mutex);
    return p;
}

static void *worker_main(void *arg) {
    embed_context *ctx = arg;
    emb_background *b = &ctx->background;
    embed_pending *p;
    while ((p = take(b)) != NULL) {
        set_state(p, RUNNING);
        const embed_status st = run(ctx, &p->call);
        end(p, st);
        if (p->call.done != NULL)
            p->call.done(p->call.user, p, st);
        leave(ctx);
        release(p);
    }
    return NULL;
}

/* It blocks all signals: the application's handlers belong to its own threads. */
static embed_status start(embed_context *ctx) {
    emb_background *b = &ctx->background;
    sigset_t all, old;
    if (b->started)
        return EMBED_OK;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    const int failed = pthread_create(&b->thread, NULL, worker_main, ctx);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed != 0)
        return emb_fail(EMBED_ERR_THREAD, "thread of the context: %s", strerror(failed));
    b->started = 1;
    return EMBED_OK;
}

/* With the lock held. */
static embed_status append(embed_context *ctx, embed_pending *p) {
    emb_background *b = &ctx->background;
    if (b->stop) /* by a callback that would go on for ever */
        return emb_fail(EMBED_ERR_CANCELLED, "ctx: is being freed");
    if (!b->active && atomic_flag_test_and_set(&ctx->busy))
        return emb_fail(EMBED_ERR_ARG, "ctx: in use by another call; use one context per thread");
    const embed_status st = start(ctx);
    if (st != EMBED_OK) {
        if (!b->active)
            atomic_flag_clear(&ctx->busy);
        return st;
    }
    b->active = 1;
    p->worker = b->thread;
    if (b->last != NULL)
        b->last->next = p;
    else
        b->first = p;
    b->last = p;
    return EMBED_OK;
}

embed_status emb_async_submit(embed_pending **out, embed_context *ctx, const emb_async_call *call) {
    embed_status st = EMBED_OK;
    emb_background *b = &ctx->background;
    embed_pending *p;
    *out = NULL;
    EMB_TRY(emb_context_check_process(ctx)); /* whose lock may be held for ever */
    EMB_TRY(make(&p, ctx, call));
    (void)pthread_mutex_lock(&b->mutex);
    *out = p;
    st = append(ctx, p);
    if (st == EMBED_OK)
        (void)pthread_cond_signal(&b->wake);
    else
        *out = NULL;
    (void)pthread_mutex_unlock(&b->mutex);
    if (st != EMBED_OK)
        destroy(p);
fail:
    return st;
}

void emb_async_init(embed_context *ctx) {
    emb_background *b = &ctx->background;
    (void)pthread_mutex_init(&b->mutex, NULL);
    (void)pthread_cond_init(&b->wake, NULL);
}

int emb_async_stop(embed_context *ctx) {
    emb_background *b = &ctx->background;
    if (b->started && ctx->pid != getpid())
        return 1; /* a child of fork() has no thread to wait for, and may find the mutex locked */
    if (b->started) {
        if (pthread_equal(pthread_self(), b->thread))
            return 0;
        (void)pthread_mutex_lock(&b->mutex);
        for (embed_pending *p = b->first; p != NULL; p = p->next)
            atomic_store(&p->cancel, 1);
        if (b->running != NULL)
            atomic_store(&b->running->cancel, 1);
        b->stop = 1;
        (void)pthread_cond_signal(&b->wake);
        (void)pthread_mutex_unlock(&b->mutex);
        (void)pthread_join(b->thread, NULL);
    }
    (void)pthread_cond_destroy(&b->wake);
    (void)pthread_mutex_destroy(&b->mutex);
    return 1;
}

/* --------------------------------------------------------------------------- the owner's calls */

static embed_status check_process(const embed_pending *p) {
    if (p->pid == getpid())
        return EMBED_OK;
    return emb_fail(EMBED_ERR_ARG, "pending: made by process %ld and used in its child %ld",
                    (long)p->pid, (long)getpid());
}

/* Whether waiting for it would stop the thread that it waits for. Its lock is held. */
static int is_own(const embed_pending *p) {
    return p->state != DONE && pthread_equal(pthread_self(), p->worker);
}

/* In so many milliseconds from now, at most some thirty years. */
static struct timespec deadline(int64_t timeout_ms) {
    struct timespec at;
    const int64_t most = INT64_C(1000000000000);
    const int64_t ms = timeout_ms < most ? timeout_ms : most;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / 1000);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

static embed_status outcome(const embed_pending *p) {
    return p->status == EMBED_OK ? EMBED_OK : emb_fail(p->status, "%s", p->message);
}

embed_status emb_pending_wait(embed_pending *p, int64_t timeout_ms, int32_t *done) {
    embed_status st = check_process(p);
    if (done != NULL)
        *done = 0;
    if (st != EMBED_OK)
        return st;
    const struct timespec until = deadline(timeout_ms);
    int timed_out = timeout_ms == 0;
    (void)pthread_mutex_lock(&p->mutex);
    if (timeout_ms != 0 && is_own(p))
        st = emb_fail(EMBED_ERR_ARG, "pending: a callback may not wait for a call of its context");
    while (st == EMBED_OK && p->state != DONE && !timed_out)
        if (timeout_ms < 0)
            (void)pthread_cond_wait(&p->changed, &p->mutex);
        else
            timed_out = pthread_cond_timedwait(&p->changed, &p->mutex, &until) != 0;
    if (st == EMBED_OK && p->state == DONE) {
        if (done != NULL)
            *done = 1;
        st = outcome(p);
    }
    (void)pthread_mutex_unlock(&p->mutex);
    return st;
}

/* Once all is enqueued an event says when it is done; before that there is none to wait for. */
static embed_status order(embed_pending *p, void *native) {
    embed_status st = EMBED_OK;
    emb_stream *stream = NULL;
    while (p->state < ENQUEUED)
        (void)pthread_cond_wait(&p->changed, &p->mutex);
    if (p->state >= ENDED)
        return outcome(p);
    EMB_TRY(emb_stream_adopt(&stream, p->ctx->device->device, native));
    EMB_TRY(emb_stream_wait(stream, p->rows));
fail:
    emb_stream_free(stream);
    return st;
}

embed_status emb_pending_order(embed_pending *p, void *native) {
    embed_status st = check_process(p);
    if (st != EMBED_OK)
        return st;
    if (!p->call.job.on_device)
        return emb_fail(EMBED_ERR_ARG, "pending: its output is memory of the host: no stream can "
                                       "wait for it; see embed_pending_wait");
    (void)pthread_mutex_lock(&p->mutex);
    st = is_own(p) && p->state < ENDED
             ? emb_fail(EMBED_ERR_ARG, "pending: a callback may not wait for a call of its context")
             : order(p, native);
    (void)pthread_mutex_unlock(&p->mutex);
    return st;
}

embed_status emb_pending_cancel(embed_pending *p) {
    const embed_status st = check_process(p);
    if (st == EMBED_OK)
        atomic_store(&p->cancel, 1);
    return st;
}

void emb_pending_free(embed_pending *p) {
    if (p == NULL || p->pid != getpid())
        return; /* the parent's; the thread that would end it is not here */
    (void)pthread_mutex_lock(&p->mutex);
    if (is_own(p))
        p->orphan = 1;
    while (!p->orphan && p->state != DONE)
        (void)pthread_cond_wait(&p->changed, &p->mutex);
    const int orphan = p->orphan;
    (void)pthread_mutex_unlock(&p->mutex);
    if (!orphan)
        destroy(p);
}

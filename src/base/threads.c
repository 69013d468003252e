#define _GNU_SOURCE
#include "base/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* `state` packs the job number (high 32 bits), whether it still takes workers, and how many are in
 * it. A worker joins by compare-and-swap while the job is open; the caller closes the job when the
 * counter has run out and waits for those inside only. */
#define JOB_ONE ((uint64_t)1 << 32)
#define JOB_OPEN ((uint64_t)1 << 31)
#define JOB_WORKERS (JOB_OPEN - 1)
#define SPIN_ROUNDS 4000 /* about 40 us of pauses: longer than the gaps of a forward */

struct emb_pool {
    emb_env env;
    int threads; /* caller included */
    int started; /* workers that run */
    pid_t pid;   /* the process they run in */
    pthread_t *handles;
    struct worker *workers;
    emb_task_fn fn;
    void *arg;
    size_t tasks;
    _Alignas(EMB_ALIGN) _Atomic uint64_t state;
    _Alignas(EMB_ALIGN) atomic_size_t next;
    _Alignas(EMB_ALIGN) atomic_int sleepers;
    atomic_int stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

struct worker {
    emb_pool *pool;
    int thread;
};

static void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(emb_pool *p, int thread) {
    for (;;) {
        const size_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (task >= p->tasks)
            return;
        p->fn(p->arg, task, thread);
    }
}

/* True once there is a job other than `seen`, or the pool stops. */
static int has_news(emb_pool *p, uint64_t seen) {
    return (atomic_load(&p->state) >> 32) != seen || atomic_load(&p->stop);
}

static void wait_for_news(emb_pool *p, uint64_t seen) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (has_news(p, seen))
            return;
        cpu_relax();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    while (!has_news(p, seen))
        pthread_cond_wait(&p->wake, &p->mutex);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void *worker_main(void *arg) {
    const struct worker *self = arg;
    emb_pool *p = self->pool;
    uint64_t seen = 0;
    for (;;) {
        wait_for_news(p, seen);
        if (atomic_load(&p->stop))
            return NULL;
        uint64_t s = atomic_load(&p->state);
        seen = s >> 32;
        while ((s & JOB_OPEN) && (s >> 32) == seen)
            if (atomic_compare_exchange_weak(&p->state, &s, s + 1)) {
                work(p, self->thread);
                atomic_fetch_sub(&p->state, 1);
                break;
            }
    }
}

/* Workers block all signals: the application's handlers belong to its own threads. */
static int start_workers(emb_pool *p) {
    sigset_t all, old;
    int err = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i + 1 < p->threads && err == 0; i++) {
        p->workers[i] = (struct worker){p, i + 1};
        err = pthread_create(&p->handles[i], NULL, worker_main, &p->workers[i]);
        p->started += err == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return err;
}

embed_status emb_pool_create(emb_pool **out, const emb_env *env, int threads) {
    embed_status st = EMBED_OK;
    emb_pool *p = NULL;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *p, (void **)&p));
    p->env = *env;
    p->threads = threads;
    p->pid = getpid();
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    EMB_TRY(emb_new_array(env, (size_t)threads, sizeof *p->handles, (void **)&p->handles));
    EMB_TRY(emb_new_array(env, (size_t)threads, sizeof *p->workers, (void **)&p->workers));
    const int err = start_workers(p);
    if (err != 0) {
        st = emb_fail(EMBED_ERR_THREAD, "worker thread %d of %d: %s", p->started + 1, threads - 1,
                      strerror(err));
        goto fail;
    }
    *out = p;
    return EMBED_OK;
fail:
    emb_pool_free(p);
    return st;
}

void emb_pool_free(emb_pool *p) {
    if (p == NULL)
        return;
    if (p->pid == getpid()) { /* a child of fork() has none of the threads to wait for */
        pthread_mutex_lock(&p->mutex);
        atomic_store(&p->stop, 1);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
        for (int i = 0; i < p->started; i++)
            pthread_join(p->handles[i], NULL);
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->mutex);
    }
    const emb_env env = p->env;
    emb_free(&env, p->workers);
    emb_free(&env, p->handles);
    emb_free(&env, p);
}

int emb_pool_threads(const emb_pool *p) {
    return p->threads;
}

void emb_pool_run(emb_pool *p, size_t tasks, emb_task_fn fn, void *arg) {
    if (p->threads == 1 || tasks <= 1) {
        for (size_t i = 0; i < tasks; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->tasks = tasks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    const uint64_t job = (atomic_load(&p->state) >> 32) + 1;
    atomic_store(&p->state, job * JOB_ONE | JOB_OPEN);
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
    work(p, 0);
    atomic_fetch_and(&p->state, ~JOB_OPEN);
    for (int i = 0; atomic_load(&p->state) & JOB_WORKERS; i++) {
        if (i < SPIN_ROUNDS)
            cpu_relax();
        else
            sched_yield(); /* a worker was descheduled in the middle of its task */
    }
}

/* ---------------------------------------------------------------------------- usable CPUs */

static int affinity_cpus(void) {
    int cpus = 0;
    for (int max = 1024; max <= 1 << 20 && cpus == 0; max *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)max);
        const size_t bytes = CPU_ALLOC_SIZE((size_t)max);
        if (set == NULL)
            return 1;
        if (sched_getaffinity(0, bytes, set) == 0)
            cpus = CPU_COUNT_S(bytes, set);
        else if (errno != EINVAL)
            max = 1 << 20;
        CPU_FREE(set);
    }
    return cpus > 0 ? cpus : 1;
}

static int read_small(const char *path, char *buf, size_t cap) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t n = read(fd, buf, cap - 1);
    close(fd);
    buf[n > 0 ? n : 0] = '\0';
    return n > 0;
}

int emb_quota_cpus(long long quota_us, long long period_us, int cpus) {
    if (quota_us <= 0 || period_us <= 0)
        return cpus;
    const long long whole = quota_us / period_us + (quota_us % period_us != 0);
    return whole < cpus ? (int)whole : cpus;
}

/* cpu.max holds "max 100000" or "QUOTA PERIOD"; every ancestor's limit counts. */
static int cgroup2_cpus(char *path, int cpus) {
    char file[512], text[128];
    for (;;) {
        (void)snprintf(file, sizeof file, "/sys/fs/cgroup%s/cpu.max", path);
        if (read_small(file, text, sizeof text)) {
            char *end;
            const long long quota = strtoll(text, &end, 10); /* 0 for "max" */
            cpus = emb_quota_cpus(quota, end != text ? strtoll(end, NULL, 10) : 0, cpus);
        }
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return cpus;
        *slash = '\0';
    }
}

static int cgroup1_cpus(const char *path, int cpus) {
    const char *const roots[] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"};
    char file[512], quota[64], period[64];
    for (size_t i = 0; i < 4; i++) {
        const char *dir = i % 2 ? "" : path; /* inside a container its own group is the root */
        (void)snprintf(file, sizeof file, "%s%s/cpu.cfs_quota_us", roots[i / 2], dir);
        if (!read_small(file, quota, sizeof quota))
            continue;
        (void)snprintf(file, sizeof file, "%s%s/cpu.cfs_period_us", roots[i / 2], dir);
        if (read_small(file, period, sizeof period))
            return emb_quota_cpus(strtoll(quota, NULL, 10), strtoll(period, NULL, 10), cpus);
    }
    return cpus;
}

int emb_usable_cpus(void) {
    char groups[2048];
    int cpus = affinity_cpus();
    if (!read_small("/proc/self/cgroup", groups, sizeof groups))
        return cpus;
    char *rest = groups; /* lines "ID:CONTROLLERS:PATH"; version 2 is "0::PATH" */
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        if (controllers[1] == '\0')
            cpus = cgroup2_cpus(strcmp(path, "/") == 0 ? path + 1 : path, cpus);
        else if (strstr(controllers, "cpu") != NULL && strstr(controllers, "cpuset") == NULL)
            cpus = cgroup1_cpus(path, cpus);
    }
    return cpus;
}

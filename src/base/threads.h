/* threads: one fixed pool per context. No work stealing, no nesting: a run() hands out task numbers
 * from one counter, the caller works too, and returns when all tasks are done. Workers that are
 * still asleep never hold a run() up. Which thread takes which task is not defined, so tasks must
 * write disjoint outputs; then results do not depend on the number of threads. */
#ifndef EMB_BASE_THREADS_H
#define EMB_BASE_THREADS_H

#include "base/alloc.h"

typedef struct emb_pool emb_pool;
/* thread: 0 .. emb_pool_threads() - 1, unique among the tasks that run at once. */
typedef void (*emb_task_fn)(void *arg, size_t task, int thread);

embed_status emb_pool_create(emb_pool **out, const emb_env *env, int threads);
void emb_pool_free(emb_pool *pool);
int emb_pool_threads(const emb_pool *pool);
void emb_pool_run(emb_pool *pool, size_t tasks, emb_task_fn fn, void *arg);

/* CPUs this process may use: its affinity mask, capped by the cgroup (v1 or v2) CPU quota. */
int emb_usable_cpus(void);
/* The cap alone for tests: quota/period rounded up, at least 1; `cpus` if quota <= 0. */
int emb_quota_cpus(long long quota_us, long long period_us, int cpus);

#endif

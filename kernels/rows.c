#include "kernels/rows.h"

/* A task moves at least this many bytes: some microseconds, what waking a thread costs. */
#define TASK_BYTES 65536
/* Tasks per thread: enough that the last one to finish is soon met. */
#define TASKS_PER_THREAD 8

struct job {
    emb_rows_fn fn;
    const void *args;
    int64_t rows, chunk;
};

static void run_task(void *arg, size_t task, int thread) {
    const struct job *job = arg;
    const int64_t first = (int64_t)task * job->chunk;
    const int64_t end = first + job->chunk < job->rows ? first + job->chunk : job->rows;
    (void)thread;
    job->fn(job->args, first, end);
}

void emb_rows_run(emb_exec *exec, emb_rows_fn fn, const void *args, int64_t rows,
                  size_t row_bytes) {
    const int64_t tasks = (int64_t)emb_pool_threads(exec->pool) * TASKS_PER_THREAD;
    const int64_t small = (int64_t)(TASK_BYTES / (row_bytes + 1)) + 1;
    const int64_t even = (rows + tasks - 1) / tasks;
    struct job job = {fn, args, rows, even > small ? even : small};
    emb_pool_run(exec->pool, (size_t)((rows + job.chunk - 1) / job.chunk), run_task, &job);
}

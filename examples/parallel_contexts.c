/* parallel_contexts: one model, two threads of the application, each with a context of its own. The
 * model is shared and never copied; both threads get the same bits.
 * usage: parallel_contexts MODEL_DIR TEXT */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

#define JOBS 2
#define CALLS 20

typedef struct job {
    pthread_t thread;
    embed_model *model;
    embed_text text;
    float *vector; /* [dim] */
    size_t dim;
    char message[256]; /* embed_last_error belongs to the thread that failed */
    embed_status status;
} job;

static void *work(void *arg) {
    job *j = arg;
    embed_context *ctx = NULL;
    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    params.threads = 1; /* the application brings the threads */
    j->status = embed_context_create(&ctx, j->model, &params);
    for (int i = 0; i < CALLS && j->status == EMBED_OK; i++)
        j->status = embed_encode(ctx, &j->text, 1, NULL, j->vector, j->dim);
    if (j->status != EMBED_OK)
        snprintf(j->message, sizeof j->message, "%s", embed_last_error());
    embed_context_free(ctx);
    return NULL;
}

int main(int argc, char **argv) {
    embed_model *model = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    job jobs[JOBS] = {0};
    int started = 0, ok = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: parallel_contexts MODEL_DIR TEXT\n");
        return 2;
    }
    if (embed_model_open(&model, argv[1], NULL) != EMBED_OK ||
        embed_model_get_info(model, &info) != EMBED_OK) {
        fprintf(stderr, "parallel_contexts: %s\n", embed_last_error());
        embed_model_free(model);
        return 1;
    }
    for (; started < JOBS; started++) {
        job *j = &jobs[started];
        j->model = model;
        j->text = (embed_text){argv[2], strlen(argv[2])};
        j->dim = (size_t)info.dim;
        j->vector = malloc(j->dim * sizeof *j->vector);
        if (!j->vector || pthread_create(&j->thread, NULL, work, j) != 0)
            break;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(jobs[i].thread, NULL);
        if (jobs[i].status != EMBED_OK)
            fprintf(stderr, "parallel_contexts: %s\n", jobs[i].message);
        ok = ok && jobs[i].status == EMBED_OK;
    }
    ok = ok && started == JOBS;
    if (ok) {
        const size_t bytes = jobs[0].dim * sizeof(float);
        const int same = memcmp(jobs[0].vector, jobs[1].vector, bytes) == 0;
        printf("%d contexts, %d calls each: %s\n", JOBS, CALLS,
               same ? "the same bits" : "different bits");
        ok = same;
    }
    for (int i = 0; i < JOBS; i++)
        free(jobs[i].vector);
    embed_model_free(model);
    return ok ? 0 : 1;
}

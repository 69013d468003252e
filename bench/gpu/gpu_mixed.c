/* Texts of mixed lengths against PyTorch in a process of its own (gpu_peer.py), in turns. */
#define _POSIX_C_SOURCE 200809L
#include "gpu/gpu_encoder.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct peer {
    pid_t pid;
    FILE *to, *from;
    char name[256];
} peer;

static void peer_stop(peer *p) {
    if (p->to != NULL)
        (void)fclose(p->to);
    if (p->from != NULL)
        (void)fclose(p->from);
    if (p->pid > 0)
        (void)waitpid(p->pid, NULL, 0);
    *p = (peer){.pid = 0};
}

/* One line without its end; "" if the peer has gone. */
static void peer_line(peer *p, char *line, size_t size) {
    line[0] = '\0';
    if (fgets(line, (int)size, p->from) == NULL)
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

static embed_status peer_start(peer *p, const char *model, const char *ids) {
    const char *named = getenv("PYTHON"), *python = named != NULL ? named : "python3";
    int in[2], out[2];
    *p = (peer){.pid = 0};
    if (pipe(in) != 0 || pipe(out) != 0)
        return emb_fail(EMBED_ERR_IO, "no pipe");
    p->pid = fork();
    if (p->pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(in[1]);
        (void)close(out[0]);
        (void)execlp(python, python, GPU_BENCH_PEER, model, ids, (char *)NULL);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    p->to = fdopen(in[1], "w");
    p->from = fdopen(out[0], "r");
    if (p->pid < 0 || p->to == NULL || p->from == NULL) {
        peer_stop(p);
        return emb_fail(EMBED_ERR_IO, "no process");
    }
    peer_line(p, p->name, sizeof p->name);
    if (strncmp(p->name, "ready ", 6) == 0)
        return EMBED_OK;
    char why[256];
    (void)snprintf(why, sizeof why, "%s", p->name[0] != '\0' ? p->name : "Python did not start");
    peer_stop(p);
    return emb_fail(EMBED_ERR_UNSUPPORTED, "%s", why);
}

static embed_status peer_ask(peer *p, const char *what, char *answer, size_t size) {
    (void)fprintf(p->to, "%s\n", what);
    (void)fflush(p->to);
    peer_line(p, answer, size);
    if (strncmp(answer, "ok", 2) != 0)
        return emb_fail(EMBED_ERR_IO, "peer: %s", answer[0] != '\0' ? answer : "it has ended");
    return EMBED_OK;
}

static embed_status run_peer(gpu_bench *b, void *arg) {
    char answer[256];
    (void)b;
    return peer_ask(arg, "run", answer, sizeof answer);
}

/* For the peer: int32 n, lengths [n], ids. */
static embed_status write_ids(const char *path, const gpu_texts *t) {
    FILE *f = fopen(path, "wb");
    const int32_t n = (int32_t)t->n;
    int ok = f != NULL && fwrite(&n, sizeof n, 1, f) == 1;
    for (size_t i = 0; ok && i < t->n; i++) {
        const int32_t length = (int32_t)t->rows[i].len;
        ok = fwrite(&length, sizeof length, 1, f) == 1;
    }
    ok = ok && fwrite(t->ids, sizeof *t->ids, t->tokens, f) == t->tokens;
    if ((f != NULL && fclose(f) != 0) || !ok)
        return emb_fail(EMBED_ERR_IO, "%s: could not be written", path);
    return EMBED_OK;
}

/* The least cosine of our vectors with the peer's. */
static embed_status check(const char *path, const gpu_texts *t, double *cosine) {
    float *other = malloc(t->n * t->dim * sizeof *other);
    FILE *f = fopen(path, "rb");
    const int ok = other != NULL && f != NULL &&
                   fread(other, sizeof *other, t->n * t->dim, f) == t->n * t->dim;
    *cosine = 1;
    for (size_t i = 0; ok && i < t->n; i++) {
        double xy = 0, xx = 0, yy = 0;
        for (size_t d = i * t->dim; d < (i + 1) * t->dim; d++) {
            xy += (double)t->out[d] * (double)other[d];
            xx += (double)t->out[d] * (double)t->out[d];
            yy += (double)other[d] * (double)other[d];
        }
        *cosine = fmin(*cosine, xy / sqrt(xx * yy));
    }
    if (f != NULL)
        (void)fclose(f);
    free(other);
    return ok ? EMBED_OK : emb_fail(EMBED_ERR_IO, "%s: could not be read", path);
}

static embed_status compare(gpu_bench *b, const char *what, embed_model *model, const char *dir,
                            const int32_t *lengths, size_t n) {
    gpu_texts t = {0};
    embed_context *ctx = NULL;
    peer p = {.pid = 0};
    static char ids[1100], vectors[1100], ask[1200]; /* too long for the stack together */
    char answer[256], shape[64], note[128];
    gpu_times times[2];
    double cosine;
    embed_status st = EMBED_OK;
    (void)snprintf(ids, sizeof ids, "%s/mixed.ids", b->work_dir);
    (void)snprintf(vectors, sizeof vectors, "%s/mixed.f32", b->work_dir);
    (void)snprintf(ask, sizeof ask, "vectors %s", vectors);
    EMB_TRY(gpu_texts_make(&t, model, lengths, n, 3));
    EMB_TRY(write_ids(ids, &t));
    EMB_TRY(gpu_context_create(b, model, EMBED_F16, b->quick ? 0 : 16384, &ctx));
    gpu_call call = {ctx, &t};
    gpu_work works[2] = {{gpu_run_call, &call, 1}, {run_peer, &p, 1}};
    EMB_TRY(gpu_run_call(b, &call));
    st = peer_start(&p, dir, ids);
    if (st == EMBED_ERR_UNSUPPORTED) {
        gpu_untold(b, what, embed_last_error());
        st = EMBED_OK;
        EMB_TRY(gpu_time(b, works, 1, times));
    } else {
        EMB_TRY(st);
        EMB_TRY(peer_ask(&p, ask, answer, sizeof answer));
        EMB_TRY(check(vectors, &t, &cosine));
        if (!(cosine > 0.99)) {
            st = emb_fail(EMBED_ERR_INTERNAL, "%s: a vector of the peer differs, cosine %g", what,
                          cosine);
            goto fail;
        }
        EMB_TRY(gpu_time(b, works, 2, times));
    }
    (void)snprintf(shape, sizeof shape, "%zu texts, %zu tokens", t.n, t.tokens);
    (void)snprintf(note, sizeof note, "%.4g tokens/s", (double)t.tokens / gpu_median(&times[0]));
    gpu_row row = {.what = what,
                   .shape = shape,
                   .dtype = "f16",
                   .seconds = gpu_median(&times[0]),
                   .flops = gpu_encoder_flops(model, &t),
                   .note = note};
    if (p.pid > 0) {
        row.against = p.name + 6;
        row.ratio = gpu_ratio(&times[1], &times[0], &row.least, &row.most);
        row.measure = "x the peer's speed";
        row.value = row.ratio;
        row.goal = 5;
    }
    gpu_tell(b, &row);
fail:
    peer_stop(&p);
    embed_context_free(ctx);
    gpu_texts_free(&t);
    (void)unlink(ids);
    (void)unlink(vectors);
    return st;
}

/* Half of the texts below 40 tokens, a few at the limit: as questions and paragraphs come. */
static void draw_lengths(int32_t *lengths, size_t n, int32_t most) {
    uint64_t state = 7;
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const double u = (double)(state >> 33) / 2147483648.0;
        lengths[i] = 4 + (int32_t)((most - 4) * u * u * u * u);
    }
}

/* transformers' BertModel writes a random checkpoint that both sides open. */
static embed_status bert(gpu_bench *b, const int32_t *lengths, size_t n) {
    embed_model_params params = EMBED_MODEL_PARAMS_INIT;
    embed_model *model = NULL;
    peer p;
    char dir[1024], ask[1100];
    embed_status st = EMBED_OK;
    (void)snprintf(dir, sizeof dir, "%s/bert-base-random", b->work_dir);
    (void)snprintf(ask, sizeof ask, "write:%s", GPU_BENCH_TOKENIZERS);
    st = peer_start(&p, dir, ask);
    if (st == EMBED_ERR_UNSUPPORTED) {
        gpu_untold(b, "BERT base, mixed lengths", embed_last_error());
        return EMBED_OK;
    }
    peer_stop(&p);
    EMB_TRY(st);
    EMB_TRY(embed_model_open(&model, dir, &params));
    EMB_TRY(compare(b, "BERT base, mixed lengths", model, dir, lengths, n));
fail:
    embed_model_free(model);
    return st;
}

embed_status gpu_section_mixed(gpu_bench *b) {
    enum { MOST = 2048 };
    static int32_t lengths[MOST];
    const size_t n = b->quick ? 6 : MOST;
    embed_model *model = NULL;
    embed_status st = EMBED_OK;
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that has gone is told by its answer */
    draw_lengths(lengths, n, b->quick ? 12 : 512);
    EMB_TRY(gpu_model_open(b, &model));
    EMB_TRY(compare(b, "MoE, mixed lengths", model, b->model_dir, lengths, n));
    if (!b->quick)
        EMB_TRY(bert(b, lengths, n));
fail:
    embed_model_free(model);
    return st;
}

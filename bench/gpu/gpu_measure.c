#include "gpu/gpu_bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/dtype.h"

/* ------------------------------------------------------------------------------------- arrays */

embed_status gpu_array(gpu_bench *b, size_t bytes, emb_dptr *out) {
    if (b->n_arrays == GPU_MAX_ARRAYS)
        return emb_fail(EMBED_ERR_INTERNAL, "more than %d arrays", GPU_MAX_ARRAYS);
    const embed_status st = emb_device_alloc(b->device, bytes, out);
    if (st == EMBED_OK)
        b->arrays[b->n_arrays++] = *out;
    return st;
}

void gpu_free_arrays(gpu_bench *b) {
    (void)emb_stream_sync(b->stream);
    while (b->n_arrays > 0)
        emb_device_free(b->device, b->arrays[--b->n_arrays]);
}

embed_status gpu_put(gpu_bench *b, emb_dptr to, const void *host, size_t bytes) {
    embed_status st = EMBED_OK;
    for (size_t done = 0; done < bytes && st == EMBED_OK;) {
        const size_t n = bytes - done < GPU_STAGING ? bytes - done : GPU_STAGING;
        memcpy(b->pinned, (const char *)host + done, n);
        st = emb_copy_in(b->stream, emb_dptr_add(to, done), b->pinned, n);
        if (st == EMBED_OK)
            st = emb_stream_sync(b->stream);
        done += n;
    }
    return st;
}

static uint64_t next(uint64_t *state) { /* SplitMix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void put_number(unsigned char *at, int32_t dtype, float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    const uint16_t half = dtype == EMBED_F16 ? emb_f32_to_f16(x) : (uint16_t)((u + 0x8000) >> 16);
    if (dtype == EMBED_F32)
        memcpy(at, &x, sizeof x);
    else
        memcpy(at, &half, sizeof half);
}

embed_status gpu_normals(gpu_bench *b, size_t n, double deviation, int32_t dtype, emb_dptr *out) {
    const size_t size = emb_dtype_bytes(dtype), period = (size_t)1 << 20,
                 made = n < period ? n : period;
    uint64_t state = n;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_array(b, n * size, out));
    for (size_t i = 0; i < made; i++) { /* a sum of four uniform numbers: near enough */
        const uint64_t z = next(&state);
        const int32_t sum = (int32_t)(z & 0xffff) + (int32_t)(z >> 16 & 0xffff) +
                            (int32_t)(z >> 32 & 0xffff) + (int32_t)(z >> 48) - 131070;
        put_number(b->pinned + i * size, dtype, (float)(deviation * sum / 37837.227));
    }
    for (size_t done = 0; done < n; done += made)
        EMB_TRY(emb_copy_in(b->stream, emb_dptr_add(*out, done * size), b->pinned,
                            (n - done < made ? n - done : made) * size));
    EMB_TRY(emb_stream_sync(b->stream));
fail:
    return st;
}

embed_status gpu_integers(gpu_bench *b, size_t n, int32_t most, emb_dptr *out) {
    int32_t *host = malloc((n + 1) * sizeof *host);
    uint64_t state = n + (uint64_t)most;
    embed_status st = host == NULL ? emb_fail(EMBED_ERR_NOMEM, "%zu numbers", n)
                                   : gpu_array(b, n * sizeof *host, out);
    for (size_t i = 0; i < n && st == EMBED_OK; i++)
        host[i] = (int32_t)(next(&state) % (uint64_t)most);
    if (st == EMBED_OK)
        st = gpu_put(b, *out, host, n * sizeof *host);
    free(host);
    return st;
}

/* -------------------------------------------------------------------------------------- times */

/* Seconds of `reps` runs in a row: by the device's clock, or the host's where the device has none
 * or the work is the host's too. */
static embed_status one_turn(gpu_bench *b, const gpu_work *w, long reps, double *seconds) {
    embed_status st = EMBED_OK;
    float ms = 0;
    EMB_TRY(emb_stream_sync(b->stream));
    const double start = emb_clock_seconds();
    EMB_TRY(emb_event_record(b->from, b->stream));
    for (long i = 0; i < reps; i++)
        EMB_TRY(w->run(b, w->arg));
    EMB_TRY(emb_event_record(b->to, b->stream));
    EMB_TRY(emb_stream_sync(b->stream));
    const double all = emb_clock_seconds() - start;
    if (!w->host)
        EMB_TRY(emb_event_elapsed(b->from, b->to, &ms));
    *seconds = ms > 0 ? 1e-3 * (double)ms : all;
fail:
    return st;
}

embed_status gpu_time(gpu_bench *b, const gpu_work *works, size_t n, gpu_times *times) {
    const double turn = b->kind == EMBED_DEVICE_EMULATED ? 0 : 0.01;
    long reps[GPU_MAX_WORKS];
    double seconds;
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < n; i++) {
        EMB_TRY(one_turn(b, &works[i], 1, &seconds));
        EMB_TRY(one_turn(b, &works[i], 1, &seconds)); /* code is loaded now */
        reps[i] = seconds < turn ? (long)(turn / (seconds + 1e-6)) + 1 : 1;
        times[i].rounds = b->rounds;
    }
    for (int round = 0; round < b->rounds; round++)
        for (size_t i = 0; i < n; i++) {
            EMB_TRY(one_turn(b, &works[i], reps[i], &seconds));
            times[i].s[round] = seconds / (double)reps[i];
        }
fail:
    return st;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double gpu_median(const gpu_times *t) {
    gpu_times sorted = *t;
    qsort(sorted.s, (size_t)sorted.rounds, sizeof sorted.s[0], ascending);
    return sorted.s[sorted.rounds / 2];
}

double gpu_ratio(const gpu_times *a, const gpu_times *b, double *least, double *most) {
    gpu_times ratio = {.rounds = a->rounds};
    for (int i = 0; i < a->rounds; i++)
        ratio.s[i] = a->s[i] / b->s[i];
    qsort(ratio.s, (size_t)ratio.rounds, sizeof ratio.s[0], ascending);
    if (least != NULL)
        *least = ratio.s[0];
    if (most != NULL)
        *most = ratio.s[ratio.rounds - 1];
    return ratio.s[ratio.rounds / 2];
}

embed_status gpu_run_op(gpu_bench *b, void *arg) {
    const gpu_op *op = arg;
    const emb_be_op *found;
    const embed_status st = emb_op_find(b->device, op->name, &found);
    return st != EMBED_OK ? st : emb_op_run(b->stream, found, op->args, op->bytes);
}

/* ------------------------------------------------------------------------------------ results */

static double greater(double x, double y) {
    return x > y ? x : y;
}

/* Seconds that moving the bytes or doing the operations takes at this run's own limits. */
static double roofline(const gpu_bench *b, const gpu_row *r) {
    return greater(b->copy > 0 ? r->bytes / b->copy : 0, b->peak > 0 ? r->flops / b->peak : 0);
}

static void csv_number(FILE *f, double x) {
    if (x > 0 || x < 0)
        (void)fprintf(f, ",%.6g", x);
    else
        (void)fputs(",", f);
}

static const char *text(const char *s) {
    return s != NULL ? s : "";
}

void gpu_tell(gpu_bench *b, const gpu_row *r) {
    const double bound = roofline(b, r);
    const int with_goal = r->goal > 0, ok = r->at_most ? r->value <= r->goal : r->value >= r->goal;
    const char *result = !with_goal ? "" : b->quick ? "not judged" : ok ? "reached" : "missed";
    b->reached += with_goal && ok && !b->quick;
    b->missed += with_goal && !ok && !b->quick;
    printf("%-24s %-22s %-5s %10.4g us", r->what, text(r->shape), text(r->dtype), 1e6 * r->seconds);
    if (bound > 0)
        printf("  %5.1f %% of roofline", 100 * bound / r->seconds);
    if (r->against != NULL)
        printf("  %.3g x %s (%.3g to %.3g)", r->ratio, r->against, r->least, r->most);
    if (with_goal)
        printf("  %.3g %s, goal %s %.3g: %s", r->value, text(r->measure),
               r->at_most ? "<=" : ">=", r->goal, result);
    printf("%s%s\n", r->note != NULL ? "  " : "", text(r->note));
    (void)fflush(stdout);
    if (b->csv == NULL)
        return;
    (void)fprintf(b->csv, "%s,\"%s\",\"%s\",%s", b->section, r->what, text(r->shape),
                  text(r->dtype));
    const double numbers[] = {r->seconds,
                              r->bytes,
                              r->flops,
                              r->seconds > 0 ? r->bytes / r->seconds * 1e-9 : 0,
                              r->seconds > 0 ? r->flops / r->seconds * 1e-12 : 0,
                              bound,
                              bound > 0 ? 100 * bound / r->seconds : 0,
                              r->ratio,
                              r->least,
                              r->most,
                              r->value,
                              r->goal};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        csv_number(b->csv, numbers[i]);
    (void)fprintf(b->csv, ",%s,\"%s\",%s,\"%s\"\n", result, text(r->against), text(r->measure),
                  text(r->note));
    (void)fflush(b->csv);
}

void gpu_untold(gpu_bench *b, const char *what, const char *why) {
    b->untold++;
    printf("%-24s not measured: %s\n", what, why);
    (void)fflush(stdout);
    if (b->csv != NULL)
        (void)fprintf(b->csv, "%s,\"%s\",,,,,,,,,,,,,,,not measured,,,\"%s\"\n", b->section, what,
                      why);
}

/* The limits of this very run: a copy on the device, and the best bf16 product of the library. */
#include "gpu/gpu_bench.h"

struct copy {
    emb_dptr to, from;
    size_t bytes;
};

static embed_status run_copy(gpu_bench *b, void *arg) {
    const struct copy *c = arg;
    return emb_copy_device(b->stream, c->to, c->from, c->bytes);
}

static embed_status measure_copy(gpu_bench *b) {
    struct copy c = {.bytes = b->quick ? (size_t)1 << 16 : (size_t)1 << 30};
    const gpu_work work = {run_copy, &c, 0};
    gpu_times t;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_normals(b, c.bytes / 4, 1, EMBED_F32, &c.from));
    EMB_TRY(gpu_array(b, c.bytes, &c.to));
    EMB_TRY(gpu_time(b, &work, 1, &t));
    b->copy = 2 * (double)c.bytes / gpu_median(&t);
    const gpu_row row = {.what = "copy",
                         .shape = b->quick ? "64 KiB" : "1 GiB",
                         .seconds = gpu_median(&t),
                         .bytes = 2 * (double)c.bytes};
    printf("copy: %.4g GB/s, bytes read and written\n", 1e-9 * b->copy);
    gpu_tell(b, &row);
fail:
    gpu_free_arrays(b);
    return st;
}

struct product {
    emb_gemm_plan *plan;
    emb_gemm_args args;
};

static embed_status run_product(gpu_bench *b, void *arg) {
    const struct product *p = arg;
    return emb_gemm_plan_run(p->plan, b->stream, &p->args);
}

static embed_status one_product(gpu_bench *b, int64_t m, int64_t n, int64_t k) {
    const emb_gemm_spec spec = {.m = m,
                                .n = n,
                                .k = k,
                                .dtype = EMBED_BF16,
                                .y_dtype = EMBED_BF16,
                                .workspace_bytes = (uint64_t)32 << 20};
    struct product p = {NULL, {{0}, {0}, {0}, {0}, {0}, {0}}};
    const gpu_work work = {run_product, &p, 0};
    gpu_times t;
    char shape[64];
    embed_status st = EMBED_OK;
    EMB_TRY(emb_gemm_plan_create(&p.plan, b->device, &spec));
    EMB_TRY(gpu_normals(b, (size_t)(m * k), 1, EMBED_BF16, &p.args.x));
    EMB_TRY(gpu_normals(b, (size_t)(n * k), 1, EMBED_BF16, &p.args.w));
    EMB_TRY(gpu_array(b, (size_t)(m * n) * 2, &p.args.y));
    EMB_TRY(gpu_array(b, (size_t)spec.workspace_bytes, &p.args.workspace));
    EMB_TRY(gpu_time(b, &work, 1, &t));
    const double flops = 2 * (double)m * (double)n * (double)k, rate = flops / gpu_median(&t);
    (void)snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
    if (rate > b->peak) {
        b->peak = rate;
        (void)snprintf(b->peak_by, sizeof b->peak_by, "%s %.100s", shape,
                       emb_gemm_plan_facts(p.plan)->algorithm);
    }
    const gpu_row row = {.what = "library product",
                         .shape = shape,
                         .dtype = "bf16",
                         .seconds = gpu_median(&t),
                         .flops = flops};
    gpu_tell(b, &row);
fail:
    gpu_free_arrays(b);
    emb_gemm_plan_free(p.plan);
    return st;
}

embed_status gpu_section_limits(gpu_bench *b) {
    static const int64_t sizes[][3] = {
        {4096, 4096, 4096}, {8192, 8192, 8192}, {16384, 8192, 8192}, {65536, 3072, 768}};
    embed_status st = EMBED_OK;
    EMB_TRY(measure_copy(b));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (b->quick && i > 0)
            break;
        st = b->quick ? one_product(b, 16, 16, 16)
                      : one_product(b, sizes[i][0], sizes[i][1], sizes[i][2]);
        if (st == EMBED_ERR_UNSUPPORTED) { /* no cuBLASLt: our own products are the yardstick */
            gpu_untold(b, "library product", embed_last_error());
            return EMBED_OK;
        }
        EMB_TRY(st);
    }
    printf("peak: %.4g TFLOP/s bf16, by %s\n", 1e-12 * b->peak, b->peak_by);
fail:
    return st;
}

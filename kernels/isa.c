#include "kernels/isa.h"

#include "kernels/gemm/gemm_tile.h"
#include "kernels/rows.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const emb_isa portable = {EMBED_ISA_PORTABLE, 0, "portable", &emb_gemm_tile_portable,
                                 &emb_rows_portable};

#if defined(__x86_64__)
static const emb_isa avx2 = {EMBED_ISA_AVX2, 0, "avx2", &emb_gemm_tile_avx2, &emb_rows_avx2};
static const emb_isa avx512 = {EMBED_ISA_AVX512, 0, "avx512", &emb_gemm_tile_avx512,
                               &emb_rows_avx512};

static int has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* The builtin looks at XGETBV too: registers that the operating system does not save do not
 * count. */
static int runs_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static int runs_avx512(void) {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

size_t emb_isa_list(const emb_isa *list[EMB_ISA_MAX]) {
    size_t n = 0;
    list[n++] = &portable;
#if defined(__x86_64__)
    if (runs_avx2())
        list[n++] = &avx2;
    if (runs_avx512())
        list[n++] = &avx512;
#endif
    return n;
}

static const char *name_of(int32_t isa) {
    return isa == EMBED_ISA_AVX512 ? "avx512" : isa == EMBED_ISA_AVX2 ? "avx2" : "portable";
}

embed_status emb_isa_select(const emb_isa **out, int32_t wanted) {
    const emb_isa *list[EMB_ISA_MAX];
    const size_t n = emb_isa_list(list);
    *out = NULL;
    if (wanted < EMBED_ISA_AUTO || wanted > EMBED_ISA_AVX512)
        return emb_fail(EMBED_ERR_ARG, "isa: expected 0 (auto) to 3 (avx512), found %d",
                        (int)wanted);
    if (wanted == EMBED_ISA_AUTO)
        *out = list[n - 1];
    for (size_t i = 0; i < n; i++)
        if (list[i]->id == wanted)
            *out = list[i];
    if (*out == NULL)
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        "isa: wanted %s, but this machine runs %s%s%s; choose one of these or auto",
                        name_of(wanted), list[0]->name, n > 1 ? ", " : "",
                        n > 1 ? list[1]->name : "");
    return EMBED_OK;
}

#include "kernels/layernorm/layernorm_cuda.h"

#include "kernels/cuda/cuda_row.h"

namespace {

struct layernorm {
    typedef emb_cuda_layernorm_args args;
    typedef int64_t row;
    static const char *name() {
        return "layernorm";
    }
    __device__ static row begin(const args &, int64_t t) {
        return t;
    }
    template <class T>
    __device__ static void load(const args &a, row t, int at, int n, int vector, float v[8]) {
        emb_row_load((const T *)a.x + t * a.dim + at, n, vector, v);
        if (a.r != NULL)
            emb_row_add((const T *)a.r + t * a.dim + at, n, vector, v);
    }
    template <class T, int WARPS, int CHUNKS>
    __device__ static void finish(const args &a, int64_t t, float (&v)[CHUNKS][8], int lane,
                                  int vector, float *partial) {
        if (a.router != NULL)
            emb_row_logits<T, WARPS, CHUNKS>(v, (int)a.dim, lane, vector, a.router, a.router_bias,
                                             a.experts, a.logits + t * a.experts, partial);
    }
};

} // namespace

extern "C" embed_status emb_cuda_layernorm(emb_cuda_exec *exec,
                                           const emb_cuda_layernorm_args *args) {
    return emb_row_run<layernorm>(exec, args,
                                  emb_row_aligned(args->x) && emb_row_aligned(args->r) &&
                                      emb_row_aligned(args->router));
}

#include "kernels/layernorm/layernorm_cuda.h"

#include "kernels/cuda/cuda_row.h"

namespace {

struct layernorm {
    typedef emb_cuda_layernorm_args args;
    struct row {
        int64_t t, x; /* of r, of x */
    };
    static const char *name() {
        return "layernorm";
    }
    __device__ static row begin(const args &a, int64_t t) {
        const row r = {t, a.x_rows != NULL ? a.x_rows[t] : t};
        return r;
    }
    template <class S>
    __device__ static void load(const args &a, const row &row, int lane, typename S::row &v) {
        typedef const typename S::T *from;
        emb_row_get<S>((from)a.x + row.x * a.dim, (int)a.dim, lane, v);
        if (a.r != NULL)
            emb_row_add<S>((from)a.r + row.t * a.dim, (int)a.dim, lane, v);
    }
    template <class S>
    __device__ static void finish(const args &a, int64_t t, int lane, typename S::row &v,
                                  float *partial) {
        if (a.router != NULL)
            emb_row_logits<S>(v, (int)a.dim, lane, a.router, a.router_bias, a.experts,
                              a.logits + t * a.experts, partial);
    }
};

} // namespace

extern "C" embed_status emb_cuda_layernorm(emb_cuda_exec *exec,
                                           const emb_cuda_layernorm_args *args) {
    return emb_row_run<layernorm>(exec, args,
                                  emb_row_aligned(args->x) && emb_row_aligned(args->r) &&
                                      emb_row_aligned(args->router));
}

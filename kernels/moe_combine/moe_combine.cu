#include "kernels/moe_combine/moe_combine_cuda.h"

#include "kernels/cuda/cuda_row.h"

namespace {

struct moe_combine : emb_row_op {
    typedef emb_cuda_moe_combine_args args;
    typedef int64_t row;
    static const char *name() {
        return "moe_combine";
    }
    __device__ static row begin(const args &, int64_t t) {
        return t;
    }
    template <class S>
    __device__ static void load(const args &a, row t, int lane, typename S::row &v) {
        typedef const typename S::T *from;
        const int dim = (int)a.dim;
        EMB_UNROLL
        for (int c = 0; c < S::CHUNKS; c++)
            EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[c][i] = 0.0f;
        for (int j = 0; j < a.top_k; j++) {
            const float gate = a.gate[t * a.top_k + j];
            typename S::row o;
            emb_row_get<S>((from)a.o + a.slot[t * a.top_k + j] * a.dim, dim, lane, o);
            EMB_UNROLL
            for (int c = 0; c < S::CHUNKS; c++)
                EMB_UNROLL
            for (int i = 0; i < 8; i++)
                v[c][i] = fmaf(gate, o[c][i], v[c][i]);
        }
        if (a.bias != NULL)
            emb_row_add<S>(a.bias, dim, lane, v);
        if (a.x != NULL)
            emb_row_add<S>((from)a.x + t * a.dim, dim, lane, v);
    }
};

} // namespace

extern "C" embed_status emb_cuda_moe_combine(emb_cuda_exec *exec,
                                             const emb_cuda_moe_combine_args *args) {
    return emb_row_run<moe_combine>(exec, args,
                                    emb_row_aligned(args->o) && emb_row_aligned(args->x) &&
                                        emb_row_aligned(args->bias));
}

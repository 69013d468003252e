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
    template <class T>
    __device__ static void load(const args &a, row t, int at, int n, int vector, float v[8]) {
        for (int j = 0; j < a.top_k; j++) {
            const float gate = a.gate[t * a.top_k + j];
            float o[8];
            emb_row_load((const T *)a.o + a.slot[t * a.top_k + j] * a.dim + at, n, vector, o);
            EMB_UNROLL
            for (int i = 0; i < 8; i++)
                v[i] = fmaf(gate, o[i], v[i]);
        }
        if (a.bias != NULL)
            emb_row_add(a.bias + at, n, vector, v);
        if (a.x != NULL)
            emb_row_add((const T *)a.x + t * a.dim + at, n, vector, v);
    }
};

} // namespace

extern "C" embed_status emb_cuda_moe_combine(emb_cuda_exec *exec,
                                             const emb_cuda_moe_combine_args *args) {
    return emb_row_run<moe_combine>(exec, args,
                                    emb_row_aligned(args->o) && emb_row_aligned(args->x) &&
                                        emb_row_aligned(args->bias));
}

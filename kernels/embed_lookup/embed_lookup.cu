#include "kernels/embed_lookup/embed_lookup_cuda.h"

#include "kernels/cuda/cuda_row.h"

namespace {

/* The parts of one row's sum, in order; NULL: left out. */
struct lookup_row {
    const void *extra;
    float scale; /* of the extra row */
    int64_t word, position;
    int replaced;
};

__device__ inline void load_extra(const emb_cuda_embed_lookup_args &a, const lookup_row &r, int at,
                                  int n, int vector, float v[8]) {
    const int64_t size = a.rows_dtype == EMBED_F32 ? 4 : a.rows_dtype == EMBED_I8 ? 1 : 2;
    const char *const p = (const char *)r.extra + at * size;
    vector = vector && (uintptr_t)p % 16 == 0;
    if (a.rows_dtype == EMBED_F32) {
        emb_row_load((const float *)p, n, vector, v);
    } else if (a.rows_dtype == EMBED_F16) {
        emb_row_load((const emb_f16 *)p, n, vector, v);
    } else if (a.rows_dtype == EMBED_BF16) {
        emb_row_load((const emb_bf16 *)p, n, vector, v);
    } else {
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] = i < n ? (float)((const signed char *)p)[i] * r.scale : 0.0f;
    }
}

struct embed_lookup : emb_row_op {
    typedef emb_cuda_embed_lookup_args args;
    typedef lookup_row row;
    static const char *name() {
        return "embed_lookup";
    }
    __device__ static row begin(const args &a, int64_t t) {
        row r;
        r.extra = a.rows != NULL ? a.rows[t] : NULL;
        r.scale = r.extra != NULL && a.rows_dtype == EMBED_I8 ? a.row_scales[t] : 1.0f;
        r.replaced = r.extra != NULL && !a.add_rows;
        r.word = r.replaced ? 0 : a.ids[t];
        r.position = a.position != NULL ? a.positions[t] : 0;
        return r;
    }
    template <class T>
    __device__ static void load(const args &a, const row &r, int at, int n, int vector,
                                float v[8]) {
        if (!r.replaced)
            emb_row_load((const T *)a.word + r.word * a.dim + at, n, vector, v);
        if (r.extra != NULL) {
            float extra[8];
            load_extra(a, r, at, n, vector, extra);
            EMB_UNROLL
            for (int i = 0; i < 8; i++)
                v[i] = r.replaced ? extra[i] : v[i] + extra[i];
        }
        if (a.position != NULL)
            emb_row_add((const T *)a.position + r.position * a.dim + at, n, vector, v);
        if (a.type != NULL)
            emb_row_add((const T *)a.type + at, n, vector, v);
    }
};

} // namespace

extern "C" embed_status emb_cuda_embed_lookup(emb_cuda_exec *exec,
                                              const emb_cuda_embed_lookup_args *args) {
    const int32_t rows = args->rows == NULL ? EMBED_F32 : args->rows_dtype;
    if (rows != EMBED_F32 && rows != EMBED_F16 && rows != EMBED_BF16 && rows != EMBED_I8)
        return emb_cuda_refuse(exec, "embed_lookup: type of the rows");
    return emb_row_run<embed_lookup>(exec, args,
                                     emb_row_aligned(args->word) &&
                                         emb_row_aligned(args->position) &&
                                         emb_row_aligned(args->type));
}

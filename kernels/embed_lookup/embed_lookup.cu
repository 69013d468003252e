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

/* A row of E, 16 bytes at a time if it is aligned. */
template <class S, class E>
__device__ inline void load_typed(const lookup_row &r, int dim, int lane, typename S::row &v) {
    if (S::VECTOR && (uintptr_t)r.extra % 16 == 0)
        emb_row_get<S>((const E *)r.extra, dim, lane, v);
    else
        emb_row_get<emb_row_shape<E, S::WARPS, S::CHUNKS, false>>((const E *)r.extra, dim, lane, v);
}

template <class S>
__device__ inline void load_extra(const emb_cuda_embed_lookup_args &a, const lookup_row &r,
                                  int lane, typename S::row &v) {
    const int dim = (int)a.dim;
    if (a.rows_dtype == EMBED_F32) {
        load_typed<S, float>(r, dim, lane, v);
    } else if (a.rows_dtype == EMBED_F16) {
        load_typed<S, emb_f16>(r, dim, lane, v);
    } else if (a.rows_dtype == EMBED_BF16) {
        load_typed<S, emb_bf16>(r, dim, lane, v);
    } else {
        emb_row_get<emb_row_shape<float, S::WARPS, S::CHUNKS, false>>((const signed char *)r.extra,
                                                                      dim, lane, v);
        EMB_UNROLL
        for (int c = 0; c < S::CHUNKS; c++)
            EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[c][i] *= r.scale;
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
    template <class S>
    __device__ static void load(const args &a, const row &r, int lane, typename S::row &v) {
        typedef const typename S::T *from;
        const int dim = (int)a.dim;
        if (r.replaced) {
            load_extra<S>(a, r, lane, v);
        } else {
            emb_row_get<S>((from)a.word + r.word * a.dim, dim, lane, v);
            if (r.extra != NULL) {
                typename S::row extra;
                load_extra<S>(a, r, lane, extra);
                EMB_UNROLL
                for (int c = 0; c < S::CHUNKS; c++)
                    EMB_UNROLL
                for (int i = 0; i < 8; i++)
                    v[c][i] += extra[c][i];
            }
        }
        if (a.position != NULL)
            emb_row_add<S>((from)a.position + r.position * a.dim, dim, lane, v);
        if (a.type != NULL)
            emb_row_add<S>((from)a.type, dim, lane, v);
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

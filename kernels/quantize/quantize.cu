#include "kernels/quantize/quantize_cuda.h"

#include "kernels/cuda/cuda_port.h"

namespace {

enum { WARPS = 4, THREADS = WARPS * EMB_WARP };

struct params {
    emb_cuda_quantize_args a;
};

/* The same in all threads: a thread's elements ascending, lanes as a butterfly, warps ascending. */
__device__ inline double row_norm(const float *x, unsigned dim) {
    EMB_SHARED(double, part, WARPS);
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < dim; i += THREADS)
        sum += (double)x[i] * (double)x[i];
    EMB_UNROLL
    for (int with = EMB_WARP / 2; with > 0; with /= 2)
        sum += __shfl_xor_sync(EMB_ALL, sum, with);
    if (threadIdx.x % EMB_WARP == 0)
        part[threadIdx.x / EMB_WARP] = sum;
    __syncthreads();
    sum = part[0];
    EMB_UNROLL
    for (int w = 1; w < WARPS; w++)
        sum += part[w];
    return sum > 1e-24 ? sqrt(sum) : 1e-12;
}

/* 0 .. 255; written so that NaN ends at 0. */
__device__ inline unsigned char bucket(float x, float min, float max) {
#if defined(__CUDACC__) /* each operation rounded by itself, as on the CPU */
    const float step = __fdiv_rn(__fsub_rn(max, min), 255.0f);
    const float q = floorf(__fdiv_rn(__fsub_rn(x, min), step != 0.0f ? step : 1.0f));
#else
    const float step = (max - min) / 255.0f;
    const float q = floorf((x - min) / (step != 0.0f ? step : 1.0f));
#endif
    return q >= 255.0f ? 255 : q > 0.0f ? (unsigned char)q : 0;
}

__global__ void __launch_bounds__(THREADS) quantize(const __grid_constant__ params p) {
    const emb_cuda_quantize_args &a = p.a;
    const int64_t row = blockIdx.x;
    const unsigned dim = (unsigned)a.dim; /* 32 bits spare registers */
    if (a.count != NULL && row >= *a.count)
        return;
    const float *const x = a.x + row * a.ldx;
    char *const out =
        (char *)a.out + (a.index != NULL ? (int64_t)a.index[row] : row) * a.out_stride;
    const double norm = a.normalize ? row_norm(x, dim) : 1.0;
    const unsigned char flip = a.output == EMBED_I8 || a.output == EMBED_BINARY ? 0x80 : 0;
    if (a.output == EMBED_BINARY || a.output == EMBED_UBINARY) {
        for (unsigned i = threadIdx.x; i < (dim + 7) / 8; i += THREADS) {
            unsigned bits = 0;
            for (unsigned j = 0; j < 8 && i * 8 + j < dim; j++)
                if ((float)((double)x[i * 8 + j] / norm) > 0.0f)
                    bits |= 0x80u >> j;
            ((unsigned char *)out)[i] = (unsigned char)(bits ^ flip);
        }
        return;
    }
    for (unsigned i = threadIdx.x; i < dim; i += THREADS) {
        const float v = a.normalize ? (float)((double)x[i] / norm) : x[i];
        if (a.output == EMBED_F32)
            ((float *)out)[i] = v;
        else if (a.output == EMBED_F16)
            ((emb_f16 *)out)[i] = emb_from_float<emb_f16>(v);
        else
            ((unsigned char *)out)[i] =
                (unsigned char)(bucket(v, a.ranges[i], a.ranges[dim + i]) ^ flip);
    }
}

} // namespace

extern "C" embed_status emb_cuda_quantize(emb_cuda_exec *exec, const emb_cuda_quantize_args *args) {
    const emb_cuda_quantize_args &a = *args;
    const params p = {a};
    const int ranged = a.output == EMBED_I8 || a.output == EMBED_U8;
    if (a.rows < 0 || a.rows > INT32_MAX || a.dim < 1 || a.dim > INT32_MAX)
        return emb_cuda_refuse(exec, "quantize: shape");
    if ((a.output != EMBED_F32 && a.output != EMBED_F16 && a.output != EMBED_BINARY &&
         a.output != EMBED_UBINARY && !ranged) ||
        (ranged && a.ranges == NULL))
        return emb_cuda_refuse(exec, "quantize: output");
    if (a.rows == 0)
        return EMBED_OK;
    return emb_cuda_launch(exec, "quantize", quantize, dim3((unsigned)a.rows), THREADS, 0, p);
}

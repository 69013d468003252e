#include "kernels/gemm/gemm_cuda.h"

#include "kernels/gemm/gemm_cuda_tf32.h"

namespace {

enum { MOST_GROUPS = 256, USUAL_PROCESSORS = 132, MOST_TILES_DOWN = 65535 };

/* BM, BN, warps down and across, stages, blocks a multiprocessor */
typedef emb_gemm_shape<128, 128, 2, 2, 3, 2> large;
typedef emb_gemm_shape<64, 64, 2, 2, 4, 3> medium;
typedef emb_gemm_shape<16, 32, 1, 2, 16, 2> small;

/* ------------------------------------------------------------------------------------- f32 */

enum { BN = 64, BK = 16, THREADS = 256, STRIDE = 68 };

/* Element (row, k) of x, or 0 beyond its end. */
__device__ inline float load_x(const emb_cuda_gemm_args &a, int row, int64_t k) {
    return row >= 0 && k < a.k ? ((const float *)a.x)[row * a.ldx + k] : 0.0f;
}

__device__ inline float load_w(const emb_cuda_gemm_args &a, const float *w, int64_t n, int64_t k) {
    if (n >= a.n || k >= a.k)
        return 0.0f;
    return w[a.layout == EMB_CUDA_NN ? k * a.n + n : n * a.k + k];
}

/* Thread (i, j) has RM rows from i RM on and 4 columns from 4 j on; x and w stand k-major in shared
 * memory, the next BK values of k wait in registers meanwhile. */
template <int RM>
__global__ void __launch_bounds__(THREADS) gemm_f32(const __grid_constant__ emb_gemm_params p) {
    EMB_SHARED(float, xs, BK *STRIDE);
    EMB_SHARED(float, ws, BK *STRIDE);
    const emb_cuda_gemm_args &a = p.a;
    const emb_gemm_rows r = emb_gemm_find_rows(a, 16 * RM);
    const int thread = (int)threadIdx.x, i = thread / 16, j = thread % 16;
    const int64_t n0 = (int64_t)blockIdx.x * BN;
    float acc[RM][4], xv[RM], wv[4];
    int rows[RM];
    if (r.first >= r.end)
        return;
    const float *const w = (const float *)a.w + (int64_t)r.group * a.n * a.k;
    /* Loading: element (i + 16 c, j) of the next tile of x; of w the same, or (j + 16 c, i) where k
     * goes down its rows, so that neighbours read neighbours. */
    const int w_n = a.layout == EMB_CUDA_NN ? j : i, w_k = a.layout == EMB_CUDA_NN ? i : j;
    EMB_UNROLL
    for (int c = 0; c < RM; c++) {
        const int64_t m = r.first + i + 16 * c;
        rows[c] = m >= r.end ? -1 : a.x_rows != NULL ? a.x_rows[m] : (int)m;
        EMB_UNROLL
        for (int d = 0; d < 4; d++)
            acc[c][d] = 0.0f;
        xv[c] = load_x(a, rows[c], j);
    }
    EMB_UNROLL
    for (int c = 0; c < 4; c++)
        wv[c] = load_w(a, w, n0 + w_n + 16 * c, w_k);
    for (int64_t k0 = 0; k0 < a.k; k0 += BK) {
        __syncthreads();
        EMB_UNROLL
        for (int c = 0; c < RM; c++)
            xs[j * STRIDE + i + 16 * c] = xv[c];
        EMB_UNROLL
        for (int c = 0; c < 4; c++)
            ws[w_k * STRIDE + w_n + 16 * c] = wv[c];
        __syncthreads();
        EMB_UNROLL
        for (int c = 0; c < RM; c++)
            xv[c] = load_x(a, rows[c], k0 + BK + j);
        EMB_UNROLL
        for (int c = 0; c < 4; c++)
            wv[c] = load_w(a, w, n0 + w_n + 16 * c, k0 + BK + w_k);
        EMB_UNROLL
        for (int k = 0; k < BK; k++) {
            const float4 u = *(const float4 *)(ws + k * STRIDE + 4 * j);
            EMB_UNROLL
            for (int c = 0; c < RM; c++) {
                const float v = xs[k * STRIDE + i * RM + c];
                acc[c][0] = fmaf(v, u.x, acc[c][0]);
                acc[c][1] = fmaf(v, u.y, acc[c][1]);
                acc[c][2] = fmaf(v, u.z, acc[c][2]);
                acc[c][3] = fmaf(v, u.w, acc[c][3]);
            }
        }
    }
    EMB_UNROLL
    for (int c = 0; c < RM; c++)
        EMB_UNROLL
    for (int d = 0; d < 4; d++) {
        const int64_t m = r.first + i * RM + c, n = n0 + 4 * j + d;
        if (m >= r.end || n >= a.n)
            continue;
        const float bias = a.bias != NULL ? a.bias[r.group * a.n + n] : 0.0f;
        const float v = emb_activate(a.act, acc[c][d] + bias);
        const float mul = a.mul != NULL ? ((const float *)a.mul)[m * a.ldmul + n] : 1.0f;
        ((float *)a.y)[m * a.ldy + n] = a.mul != NULL ? v * mul : v;
    }
}

/* ------------------------------------------------------------------------------- launching */

int64_t tiles(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

int64_t tiles_down(const emb_cuda_gemm_args &a, int64_t height) {
    return a.offset != NULL ? a.m / height + a.groups : tiles(a.m, height);
}

dim3 grid_of(const emb_cuda_gemm_args &a, int64_t height, int64_t width) {
    return dim3((unsigned)tiles(a.n, width), (unsigned)tiles_down(a, height));
}

embed_status start_f32(emb_cuda_exec *x, const emb_gemm_params &p) {
    if (p.a.m <= 32 * p.a.groups)
        return emb_cuda_launch(x, "gemm_f32", gemm_f32<1>, grid_of(p.a, 16, BN), THREADS, 0, p);
    return emb_cuda_launch(x, "gemm_f32", gemm_f32<4>, grid_of(p.a, 64, BN), THREADS, 0, p);
}

template <class T, class S>
embed_status start_shape(emb_cuda_exec *x, const emb_gemm_params &p) {
    const dim3 grid = grid_of(p.a, S::BM, S::BN);
    if (p.a.layout == EMB_CUDA_NN)
        return emb_cuda_launch(x, "gemm_mma_nn", emb_gemm_mma<T, S, true>, grid, S::THREADS,
                               S::SHARED, p);
    return emb_cuda_launch(x, "gemm_mma_nt", emb_gemm_mma<T, S, false>, grid, S::THREADS, S::SHARED,
                           p);
}

/* The largest tile of which there are enough for all multiprocessors. */
template <class T>
embed_status start_mma(emb_cuda_exec *x, const emb_gemm_params &p) {
    const int64_t processors = x->processors > 0 ? x->processors : USUAL_PROCESSORS;
    if (tiles(p.a.m, large::BM) * tiles(p.a.n, large::BN) >= processors)
        return start_shape<T, large>(x, p);
    if (p.a.m > 32 * p.a.groups)
        return start_shape<T, medium>(x, p);
    return start_shape<T, small>(x, p);
}

int aligned(const void *p, int64_t stride) {
    return (uintptr_t)p % 16 == 0 && stride % 8 == 0;
}

/* Which kernel multiplies 16-bit elements. AUTO is the place to change where measurements say so;
 * only what is the same for all batches of a model may count (gemm_cuda.h, bits). */
enum { AUTO, MMA, SM90 };

embed_status start(emb_cuda_exec *exec, const emb_cuda_gemm_args *args, int kernel) {
    emb_gemm_params p = {*args, 0, 0, 0};
    emb_cuda_gemm_args &a = p.a;
    if (a.offset == NULL)
        a.groups = 1;
    if (a.m < 0 || a.n < 1 || a.k < 1 || a.n > INT32_MAX || a.k > INT32_MAX || a.groups < 1 ||
        a.groups > MOST_GROUPS || tiles_down(a, small::BM) > MOST_TILES_DOWN)
        return emb_cuda_refuse(exec, "gemm: shape");
    if (a.layout != EMB_CUDA_NT && a.layout != EMB_CUDA_NN)
        return emb_cuda_refuse(exec, "gemm: layout");
    if (a.dtype != EMBED_F32 && a.dtype != EMBED_F16 && a.dtype != EMBED_BF16)
        return emb_cuda_refuse(exec, "gemm: type");
    if (a.m == 0)
        return EMBED_OK;
    p.x_vector = aligned(a.x, a.ldx);
    p.w_vector = aligned(a.w, a.layout == EMB_CUDA_NN ? a.n : a.k);
    p.y_vector = aligned(a.y, a.ldy) && aligned(a.mul, a.mul != NULL ? a.ldmul : 0);
    if (kernel != MMA && emb_gemm_sm90_takes(exec, &p))
        return emb_gemm_sm90_start(exec, &p);
    if (kernel == SM90)
        return emb_cuda_refuse(exec, "gemm: not for the kernel of sm_90");
    if (a.dtype == EMBED_F32)
        return a.tf32 ? emb_gemm_start_tf32(exec, p) : start_f32(exec, p);
    return a.dtype == EMBED_F16 ? start_mma<emb_f16>(exec, p) : start_mma<emb_bf16>(exec, p);
}

} // namespace

extern "C" embed_status emb_cuda_gemm(emb_cuda_exec *exec, const emb_cuda_gemm_args *args) {
    return start(exec, args, AUTO);
}

extern "C" embed_status emb_cuda_gemm_mma(emb_cuda_exec *exec, const emb_cuda_gemm_args *args) {
    return start(exec, args, MMA);
}

extern "C" embed_status emb_cuda_gemm_sm90(emb_cuda_exec *exec, const emb_cuda_gemm_args *args) {
    return start(exec, args, SM90);
}

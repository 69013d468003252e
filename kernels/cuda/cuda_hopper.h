/* cuda_hopper: what only sm_90a has: products of a warpgroup whose operands stay in shared memory
 * (wgmma), bulk copies of tiles that maps describe (TMA), and the barriers in shared memory that
 * count bytes (PTX ISA 8.7, "Asynchronous warpgroup level matrix instructions", "cp.async.bulk",
 * "mbarrier"). A source that includes this is compiled for 90a alone, and for the CPU.
 *
 * A tile in shared memory has rows of 128 or 64 bytes one after the other and is swizzled:
 * bits 4..6 (4..5) of an address are its bits 4..6 (4..5) xor its bits 7..9 (7..8). It starts at a
 * multiple of 1024 (512) bytes, so that chunk c of row r of 128 bytes lies at 128 r + 16 (c xor r %
 * 8).
 *
 * Accumulators of m64nNk16: element 4 j + 2 h + c of thread t of the warpgroup is column 8 j +
 * 2 (t % 4) + c of row 16 (t / 32) + 8 h + t % 32 / 4. */
#ifndef EMB_KERNELS_CUDA_HOPPER_H
#define EMB_KERNELS_CUDA_HOPPER_H

#include "kernels/cuda/cuda_mma.h"
#if defined(__CUDACC__)
#include <cudaTypedefs.h>
#endif

#define EMB_WARPGROUP 128

/* Bytes of the rows of a swizzled tile. */
enum { EMB_SWIZZLE_64 = 64, EMB_SWIZZLE_128 = 128 };

/* What describes a matrix to the bulk copies; encoded on the host, a kernel takes it by value. */
#if defined(__CUDACC__)
struct alignas(64) emb_tensor_map {
    unsigned char opaque[128];
};
#else
typedef emb_shim_tensor_map emb_tensor_map;
#endif

/* A stack of `dims[2]` matrices of 16-bit elements, dims[0] contiguous ones a row, strides[] bytes
 * from row to row and from matrix to matrix; copies take box[0] x box[1] elements of one matrix,
 * zeros beyond its ends; 2 box[0] is the swizzle. */
struct emb_tensor_shape {
    uint64_t dims[3], strides[2];
    uint32_t box[2];
    int32_t dtype;
};

/* 0: it cannot be described: no encoder in exec, or an address or a stride that is not a multiple
 * of 16 bytes. */
static inline int emb_tensor_map_encode(const emb_cuda_exec *exec, emb_tensor_map *map,
                                        const void *matrix, const emb_tensor_shape *s) {
    if (exec->tensor_maps == NULL || (uintptr_t)matrix % 16 != 0 || s->strides[0] % 16 != 0 ||
        s->strides[1] % 16 != 0)
        return 0;
#if defined(__CUDACC__)
    const uint32_t box[3] = {s->box[0], s->box[1], 1}, steps[3] = {1, 1, 1};
    return ((PFN_cuTensorMapEncodeTiled_v12000)exec->tensor_maps)(
               (CUtensorMap *)map,
               s->dtype == EMBED_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                     : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
               3, (void *)matrix, s->dims, s->strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
               2 * s->box[0] == EMB_SWIZZLE_128 ? CU_TENSOR_MAP_SWIZZLE_128B
                                                : CU_TENSOR_MAP_SWIZZLE_64B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
#else
    return emb_shim_map_encode(map, matrix, s->dims, s->strides, s->box);
#endif
}

/* How wgmma finds an operand tile at shared address `at`: `row` bytes a row; from 8 rows to the
 * next 8 `across8`; where the operand is as wide as several tiles, `along` from one to the next. */
__device__ static inline uint64_t emb_wgmma_descriptor(unsigned at, int row, int across8,
                                                       int along) {
    return (uint64_t)(at >> 4 & 0x3fffu) | (uint64_t)(along >> 4 & 0x3fff) << 16 |
           (uint64_t)(across8 >> 4 & 0x3fff) << 32 |
           (uint64_t)(row == EMB_SWIZZLE_128 ? 1 : 2) << 62;
}

#if defined(__CUDACC__)

/* ------------------------------------------------------------------------------- barriers */

__device__ static inline void emb_barrier_init(uint64_t *barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(emb_shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
/* After all inits by this thread, before the __syncthreads that tells the others. */
__device__ static inline void emb_barrier_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
}
__device__ static inline void emb_barrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(emb_shared_address(barrier))
                 : "memory");
}
/* An arrival; the phase also waits for `bytes` of bulk copies. */
__device__ static inline void emb_barrier_expect(uint64_t *barrier, unsigned bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(emb_shared_address(barrier)),
        "r"(bytes)
        : "memory");
}
/* Until the phase of this parity has ended; of a new barrier parity 1 has. */
__device__ static inline void emb_barrier_wait(uint64_t *barrier, unsigned parity) {
    unsigned done;
    do
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(done)
                     : "r"(emb_shared_address(barrier)), "r"(parity)
                     : "memory");
    while (!done);
}

/* ----------------------------------------------------------------------------- bulk copies */

/* The map's box at (c0, c1) of matrix c2 to `to`, counted by the barrier. */
__device__ static inline void emb_bulk_load(void *to, const emb_tensor_map *map, uint64_t *barrier,
                                            int c0, int c1, int c2) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(emb_shared_address(to)),
                 "l"(map), "r"(emb_shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2)
                 : "memory");
}
__device__ static inline void emb_bulk_prefetch_map(const emb_tensor_map *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
/* What this thread wrote to shared memory itself, cp.async included once waited for, is there for
 * wgmma of those that it tells. */
__device__ static inline void emb_async_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* -------------------------------------------------------------------------------- products */

/* Each thread of the warpgroup has N registers from here on. */
template <int N>
__device__ inline void emb_registers_grow() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ inline void emb_registers_shrink() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/* The compiler is not to know what x is: what follows from it is computed anew, not kept. */
__device__ static inline void emb_forget(int &x) {
    asm volatile("" : "+r"(x));
}

/* Before the products of a group: accumulators and operands are as this thread left them. */
__device__ static inline void emb_wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ static inline void emb_wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* All groups but the NEWEST have read their operands and written d. */
template <int NEWEST, int M, int N>
__device__ inline void emb_wgmma_wait(float (&d)[M][N]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(NEWEST) : "memory");
    EMB_UNROLL
    for (int i = 0; i < M; i++)
        EMB_UNROLL
    for (int j = 0; j < N; j++) /* d is not read before */
        asm volatile("" : "+f"(d[i][j])::"memory");
}

/* Names and operands of 16 accumulators each. */
/* clang-format off */
#define EMB_WGMMA_S0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define EMB_WGMMA_S1 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define EMB_WGMMA_S2 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define EMB_WGMMA_S3 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define EMB_WGMMA_S4 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define EMB_WGMMA_S5 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define EMB_WGMMA_D0 \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
    "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define EMB_WGMMA_D1 \
    "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
    "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define EMB_WGMMA_D2 \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
    "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define EMB_WGMMA_D3 \
    "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define EMB_WGMMA_D4 \
    "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), \
    "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define EMB_WGMMA_D5 \
    "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), \
    "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
/* clang-format on */
#define EMB_WGMMA_S_16 EMB_WGMMA_S0
#define EMB_WGMMA_S_64 EMB_WGMMA_S0 ", " EMB_WGMMA_S1 ", " EMB_WGMMA_S2 ", " EMB_WGMMA_S3
#define EMB_WGMMA_S_96 EMB_WGMMA_S_64 ", " EMB_WGMMA_S4 ", " EMB_WGMMA_S5
#define EMB_WGMMA_D_96 EMB_WGMMA_D_64, EMB_WGMMA_D4, EMB_WGMMA_D5
#define EMB_WGMMA_D_16 EMB_WGMMA_D0
#define EMB_WGMMA_D_64 EMB_WGMMA_D0, EMB_WGMMA_D1, EMB_WGMMA_D2, EMB_WGMMA_D3

#define EMB_WGMMA(T, TYPE, N, REGISTERS, A, B, ADD, AS)                                            \
    template <bool NN>                                                                             \
    __device__ inline void emb_wgmma(T, float(&d)[REGISTERS], uint64_t a, uint64_t b, int add) {   \
        asm volatile("{\n"                                                                         \
                     ".reg .pred p;\n"                                                             \
                     "setp.ne.b32 p, " ADD ", 0;\n"                                                \
                     "wgmma.mma_async.sync.aligned.m64n" N "k16.f32." TYPE "." TYPE                \
                     " {" EMB_WGMMA_S_##REGISTERS "}, " A ", " B ", p, 1, 1, 0, " AS ";\n"         \
                                                  "}"                                              \
                     : EMB_WGMMA_D_##REGISTERS                                                     \
                     : "l"(a), "l"(b), "r"(add), "n"(NN ? 1 : 0)                                   \
                     : "memory");                                                                  \
    }
/* d (+)= a b: a 64 x 16, a row of its tile a row of a; b 16 x N for N / 2 accumulators, a row of
 * its tile a column of b, or with NN a row of b. add 0: d is only written. */
EMB_WGMMA(emb_f16, "f16", "32", 16, "%16", "%17", "%18", "%19")
EMB_WGMMA(emb_f16, "f16", "128", 64, "%64", "%65", "%66", "%67")
EMB_WGMMA(emb_f16, "f16", "192", 96, "%96", "%97", "%98", "%99")
EMB_WGMMA(emb_bf16, "bf16", "32", 16, "%16", "%17", "%18", "%19")
EMB_WGMMA(emb_bf16, "bf16", "128", 64, "%64", "%65", "%66", "%67")
EMB_WGMMA(emb_bf16, "bf16", "192", 96, "%96", "%97", "%98", "%99")

#else

static inline void emb_barrier_init(uint64_t *barrier, unsigned arrivals) {
    emb_shim_barrier_init(barrier, arrivals);
}
static inline void emb_barrier_init_done() {
}
static inline void emb_barrier_arrive(uint64_t *barrier) {
    emb_shim_barrier_arrive(barrier, 0);
}
static inline void emb_barrier_expect(uint64_t *barrier, unsigned bytes) {
    emb_shim_barrier_arrive(barrier, bytes);
}
static inline void emb_barrier_wait(uint64_t *barrier, unsigned parity) {
    emb_shim_barrier_wait(barrier, parity);
}
static inline void emb_bulk_load(void *to, const emb_tensor_map *map, uint64_t *barrier, int c0,
                                 int c1, int c2) {
    emb_shim_bulk_load(to, map, barrier, c0, c1, c2);
}
static inline void emb_bulk_prefetch_map(const emb_tensor_map *) {
}
static inline void emb_async_fence() {
    emb_shim_async_fence();
}
template <int N>
void emb_registers_grow() {
    static_assert(N >= 24 && N <= 256 && N % 8 == 0, "setmaxnreg");
}
template <int N>
void emb_registers_shrink() {
    static_assert(N >= 24 && N <= 256 && N % 8 == 0, "setmaxnreg");
}
static inline void emb_forget(int &) {
}
static inline void emb_wgmma_fence() {
    emb_shim_wgmma_fence();
}
static inline void emb_wgmma_commit() {
    emb_shim_wgmma_commit();
}
template <int NEWEST, int M, int N>
void emb_wgmma_wait(float (&)[M][N]) {
    emb_shim_wgmma_wait(NEWEST);
}
template <class T>
float emb_shim_widen_as(uint16_t bits) {
    return emb_to_float(T{bits});
}
template <bool NN, class T, int N>
void emb_wgmma(T, float (&d)[N], uint64_t a, uint64_t b, int add) {
    static_assert(N % 4 == 0 && N <= 128, "n is a multiple of 8 up to 256");
    emb_shim_wgmma(d, 2 * N, emb_shim_widen_as<T>, a, b, add, NN);
}

#endif

#endif

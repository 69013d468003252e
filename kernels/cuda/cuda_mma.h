/* cuda_mma: the matrix instructions of a warp, and what brings their operands: ldmatrix and
 * cp.async (PTX ISA 8.7, "Matrix multiply-accumulate operation using mma instruction", sm_80 and
 * later).
 *
 * Fragments, with g = lane / 4 and q = lane % 4:
 *   A 16 x 16, 4 words of 2 elements: (g, 2q..), (g + 8, 2q..), (g, 2q + 8..), (g + 8, 2q + 8..)
 *   B 16 x 8, 2 words: rows 2q, 2q + 1 and 2q + 8, 2q + 9 of column g
 *   C 16 x 8, 4 floats: (g, 2q), (g, 2q + 1), (g + 8, 2q), (g + 8, 2q + 1)
 * Products of 16-bit elements are exact; the order in which 16 of them and C are added is the
 * hardware's own (and may cut instead of round), so error bounds allow for any. */
#ifndef EMB_KERNELS_CUDA_MMA_H
#define EMB_KERNELS_CUDA_MMA_H

#include "kernels/cuda/cuda_port.h"

#if defined(__CUDACC__)

__device__ static inline unsigned emb_shared_address(const void *p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

/* c += a b */
__device__ static inline void emb_mma(emb_f16, float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                      uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ static inline void emb_mma(emb_bf16, float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                      uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/* m16n8k8 on f32 operands cut to tf32: A (g, q), (g + 8, q), (g, q + 4), (g + 8, q + 4); B (q, g),
 * (q + 4, g). */
__device__ static inline void emb_mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 and
 * gets elements 2q, 2q + 1 of row g of each; transposed: rows 2q, 2q + 1 of column g. */
__device__ static inline void emb_ldmatrix(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(emb_shared_address(row))
                 : "memory");
}
__device__ static inline void emb_ldmatrix_transposed(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(emb_shared_address(row))
                 : "memory");
}

/* 16 bytes to shared memory, there once waited for: `bytes` of them from global memory, then zeros.
 */
__device__ static inline void emb_copy_async(void *to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(emb_shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
}
__device__ static inline void emb_copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* This thread's copies of all but the NEWEST groups are done. */
template <int NEWEST>
__device__ inline void emb_copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(NEWEST) : "memory");
}

#else

static inline unsigned emb_shared_address(const void *p) {
    return emb_shim_shared_address(p);
}

template <class T>
void emb_shim_mma_all(unsigned char (*slot)[EMB_SHIM_SLOT]) {
    static float a[16][16], b[16][8];
    uint32_t w[6];
    float c[4];
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, q = lane % 4;
        memcpy(w, slot[lane], sizeof w);
        for (int half = 0; half < 2; half++)
            for (int i = 0; i < 6; i++) {
                const float v = emb_to_float(T{(uint16_t)(w[i] >> 16 * half)});
                if (i < 4)
                    a[g + i % 2 * 8][2 * q + half + i / 2 * 8] = v;
                else
                    b[2 * q + half + (i - 4) * 8][g] = v;
            }
    }
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, q = lane % 4;
        memcpy(c, slot[lane] + sizeof w, sizeof c);
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 16; k++)
                c[i] += a[g + i / 2 * 8][k] * b[k][2 * q + i % 2];
        memcpy(slot[lane] + sizeof w, c, sizeof c);
    }
}
template <class T>
void emb_mma(T, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    struct {
        uint32_t a[4], b[2];
        float c[4];
    } d;
    memcpy(d.a, a, sizeof d.a);
    d.b[0] = b0;
    d.b[1] = b1;
    memcpy(d.c, c, sizeof d.c);
    unsigned char(*all)[EMB_SHIM_SLOT] =
        emb_shim_exchange("mma.m16n8k16", &d, sizeof d, emb_shim_mma_all<T>);
    memcpy(c, all[emb_shim_lane()] + sizeof d.a + sizeof d.b, sizeof d.c);
}

static inline void emb_shim_tf32_all(unsigned char (*slot)[EMB_SHIM_SLOT]) {
    static float a[16][8], b[8][8];
    float v[6], c[4];
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, q = lane % 4;
        memcpy(v, slot[lane], sizeof v);
        for (int i = 0; i < 6; i++) {
            const float cut = emb_bits_float(emb_float_bits(v[i]) & 0xffffe000u);
            if (i < 4)
                a[g + i % 2 * 8][q + i / 2 * 4] = cut;
            else
                b[q + (i - 4) * 4][g] = cut;
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, q = lane % 4;
        memcpy(c, slot[lane] + sizeof v, sizeof c);
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 8; k++)
                c[i] += a[g + i / 2 * 8][k] * b[k][2 * q + i % 2];
        memcpy(slot[lane] + sizeof v, c, sizeof c);
    }
}
static inline void emb_mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    struct {
        uint32_t a[4], b[2];
        float c[4];
    } d;
    memcpy(d.a, a, sizeof d.a);
    d.b[0] = b0;
    d.b[1] = b1;
    memcpy(d.c, c, sizeof d.c);
    unsigned char(*all)[EMB_SHIM_SLOT] =
        emb_shim_exchange("mma.m16n8k8", &d, sizeof d, emb_shim_tf32_all);
    memcpy(c, all[emb_shim_lane()] + sizeof d.a + sizeof d.b, sizeof d.c);
}

/* The last lane reads for all, as the instruction does. */
template <bool TRANSPOSED>
void emb_shim_ldmatrix_all(unsigned char (*slot)[EMB_SHIM_SLOT]) {
    static uint16_t m[4][8][8];
    for (int lane = 0; lane < 32; lane++) {
        const void *row;
        memcpy(&row, slot[lane], sizeof row);
        if ((uintptr_t)row % 16 != 0)
            emb_shim_fault("ldmatrix: a row that does not start at a multiple of 16 bytes");
        memcpy(m[lane / 8][lane % 8], row, 16);
    }
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, q = lane % 4;
        uint32_t r[4];
        for (int i = 0; i < 4; i++)
            r[i] = TRANSPOSED ? m[i][2 * q][g] | (uint32_t)m[i][2 * q + 1][g] << 16
                              : m[i][g][2 * q] | (uint32_t)m[i][g][2 * q + 1] << 16;
        memcpy(slot[lane], r, sizeof r);
    }
}
static inline void emb_ldmatrix(uint32_t (&r)[4], const void *row) {
    memcpy(r,
           emb_shim_exchange("ldmatrix", &row, sizeof row,
                             emb_shim_ldmatrix_all<false>)[emb_shim_lane()],
           sizeof r);
}
static inline void emb_ldmatrix_transposed(uint32_t (&r)[4], const void *row) {
    memcpy(r,
           emb_shim_exchange("ldmatrix.trans", &row, sizeof row,
                             emb_shim_ldmatrix_all<true>)[emb_shim_lane()],
           sizeof r);
}
static inline void emb_copy_async(void *to, const void *from, int bytes) {
    emb_shim_copy_async(to, from, bytes);
}
static inline void emb_copy_commit() {
    emb_shim_copy_commit();
}
template <int NEWEST>
void emb_copy_wait() {
    emb_shim_copy_wait(NEWEST);
}

#endif

/* A tile in shared memory has rows of CHUNKS chunks of 16 bytes; where chunk c of row r lies, so
 * that the 8 rows that ldmatrix reads at once come from different banks. */
template <int CHUNKS>
__device__ inline int emb_swizzle(int row, int chunk) {
    static_assert(CHUNKS >= 4 && (CHUNKS & (CHUNKS - 1)) == 0, "rows of 64 bytes or more");
    return row * CHUNKS + (CHUNKS == 4 ? chunk ^ (row >> 1 & 3) : chunk ^ (row & 7));
}

/* 8 elements of 16 bits to one chunk of a tile, zeros for all but the first n: asynchronously where
 * all are wanted and p is aligned (or none is: p is then not read), else at once. */
template <class T>
__device__ inline void emb_copy_chunk(uint4 *to, const T *p, int n, int aligned) {
    if (aligned) {
        emb_copy_async(to, p, n >= 8 ? 16 : n > 0 ? 2 * n : 0);
        return;
    }
    T v[8];
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[i] = i < n ? p[i] : T{0};
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        ((T *)to)[i] = v[i];
}

#endif

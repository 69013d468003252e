#include "kernels/cuda/cuda_shim_sched.h"

#include "kernels/cuda/cuda_emulation.h"
#include "kernels/cuda/cuda_shim.h"

enum {
    LANES = 32,
    MAX_THREADS = 1024,
    WARPGROUP = 128,
    MAX_LOADS = 128,
    MAX_PRODUCTS = 64,
    MAX_WRITTEN = 256,
    MAX_LOG = 256,
    MAX_N = 256,
    CHUNK = 16,
    MAX_SHARED = 228 << 10,
    WINDOW = 0x480 /* of the dynamic array: a multiple of 128, as little as CUDA promises */
};
static const uint64_t MAP_MAGIC = 0x70616d726f736e65u;

/* A barrier, in its 8 bytes of shared memory, which starts as NaN. */
struct barrier_bits {
    uint16_t arrivals, left; /* of a phase; still to come */
    uint32_t parity : 1;
    int32_t bytes : 31; /* still to come */
};
static_assert(sizeof(barrier_bits) == 8, "the size of an mbarrier");

struct load {
    unsigned char *to;
    emb_shim_tensor_map map;
    uint64_t *barrier;
    int64_t c[3];
};

struct product {
    float *d;
    float (*widen)(uint16_t);
    uint64_t a, b;
    int n, add, rows_of_b, group;
};

struct lane {
    int products, groups, fenced, written;
    uint32_t issued;
    product pending[MAX_PRODUCTS];
    unsigned chunks[MAX_WRITTEN]; /* written since the last fence */
};

static struct {
    int threads, loads;
    load pending[MAX_LOADS];
    lane lanes[MAX_THREADS];
    /* the latest products of each warpgroup, and the number of each */
    product log[MAX_THREADS / WARPGROUP][MAX_LOG];
    uint32_t logged[MAX_THREADS / WARPGROUP][MAX_LOG];
    unsigned char unfenced[MAX_SHARED / CHUNK]; /* chunks that only ordinary accesses see */
} now;

static lane *this_lane(void) {
    return &now.lanes[emb_shim_thread()];
}

/* ------------------------------------------------------------------------- shared addresses */

unsigned emb_shim_shared_address(const void *p) {
    size_t bytes;
    const unsigned char *const base = emb_shim_dynamic_array(&bytes);
    const size_t at = (size_t)((const unsigned char *)p - base);
    if (at > bytes)
        emb_shim_fault("an address outside the dynamic shared array");
    return WINDOW + (unsigned)at;
}

static unsigned char *at_shared(unsigned address, size_t n) {
    size_t bytes;
    unsigned char *const base = emb_shim_dynamic_array(&bytes);
    if (address < WINDOW || address - WINDOW + n > bytes)
        emb_shim_fault("a tile outside the dynamic shared array");
    return base + (address - WINDOW);
}

/* Where the tile's byte that would be at `address` lies. */
static unsigned swizzled(unsigned address, int row) {
    return row == 128 ? address ^ (address >> 3 & 0x70u) : address ^ (address >> 3 & 0x30u);
}

/* ---------------------------------------------------------------------------------- barriers */

static barrier_bits *barrier_at(uint64_t *barrier) {
    barrier_bits *const b = (barrier_bits *)barrier;
    (void)at_shared(emb_shim_shared_address(barrier), sizeof *b);
    if ((uintptr_t)barrier % 8 != 0 || b->arrivals == 0xffff)
        emb_shim_fault("mbarrier: not initialised");
    return b;
}

static void advance(uint64_t *barrier, barrier_bits *b) {
    if (b->left > 0 || b->bytes != 0)
        return;
    b->left = b->arrivals;
    b->parity ^= 1;
    emb_shim_wake(barrier);
}

void emb_shim_barrier_init(uint64_t *barrier, unsigned arrivals) {
    const barrier_bits b = {(uint16_t)arrivals, (uint16_t)arrivals, 0, 0};
    (void)at_shared(emb_shim_shared_address(barrier), sizeof b);
    if (arrivals < 1 || arrivals > 0x7fff)
        emb_shim_fault("mbarrier: number of arrivals");
    memcpy(barrier, &b, sizeof b);
}

void emb_shim_barrier_arrive(uint64_t *barrier, unsigned bytes) {
    barrier_bits *const b = barrier_at(barrier);
    if (b->left == 0)
        emb_shim_fault("mbarrier: more arrivals than it counts");
    b->bytes += (int)bytes;
    b->left--;
    advance(barrier, b);
}

void emb_shim_barrier_wait(uint64_t *barrier, unsigned parity) {
    while (barrier_at(barrier)->parity == parity)
        emb_shim_park(barrier);
}

/* ------------------------------------------------------------------------------- bulk copies */

int emb_shim_map_encode(emb_shim_tensor_map *map, const void *matrix, const uint64_t dims[3],
                        const uint64_t strides[2], const uint32_t box[2]) {
    const uint64_t most = (uint64_t)1 << 32, longest = (uint64_t)1 << 40;
    for (int d = 0; d < 3; d++)
        if (dims[d] < 1 || dims[d] > most)
            return 0;
    if (strides[0] < 2 * dims[0] || strides[0] >= longest || strides[1] >= longest ||
        (box[0] != 32 && box[0] != 64) || box[1] < 1 || box[1] > 256)
        return 0;
    *map = {MAP_MAGIC,
            (uint64_t)(uintptr_t)matrix,
            {dims[0], dims[1], dims[2]},
            {strides[0], strides[1]},
            {box[0], box[1]}};
    return 1;
}

void emb_emulation_tensor_maps(void) {
}

void emb_shim_bulk_load(void *to, const emb_shim_tensor_map *map, uint64_t *barrier, int c0, int c1,
                        int c2) {
    const unsigned row = 2 * map->box[0], bytes = row * map->box[1];
    const unsigned at = emb_shim_shared_address(to);
    if (map->magic != MAP_MAGIC)
        emb_shim_fault("cp.async.bulk: a map that was not encoded");
    if (at % (8 * row) != 0)
        emb_shim_fault("cp.async.bulk: the pattern of a swizzled tile starts inside it");
    (void)barrier_at(barrier);
    if (now.loads == MAX_LOADS)
        emb_shim_fault("cp.async.bulk: more copies under way than the emulation keeps");
    memset(at_shared(at, bytes), 0xff, bytes);
    memset(now.unfenced + (at - WINDOW) / CHUNK, 0, bytes / CHUNK);
    now.pending[now.loads++] = {(unsigned char *)to, *map, barrier, {c0, c1, c2}};
}

int emb_shim_async_busy(void) {
    return now.loads > 0;
}

int emb_shim_async_arrive(void) {
    if (now.loads == 0)
        return 0;
    const int which = (int)(emb_shim_random() % (uint64_t)now.loads);
    const load l = now.pending[which];
    const emb_shim_tensor_map *const m = &l.map;
    const unsigned row = 2 * m->box[0], at = emb_shim_shared_address(l.to);
    memmove(now.pending + which, now.pending + which + 1,
            (size_t)(--now.loads - which) * sizeof now.pending[0]);
    for (uint32_t j = 0; j < m->box[1]; j++)
        for (uint32_t i = 0; i < m->box[0]; i++) {
            const int64_t c[3] = {l.c[0] + i, l.c[1] + j, l.c[2]};
            uint16_t v = 0;
            int inside = 1;
            for (int d = 0; d < 3; d++)
                inside &= c[d] >= 0 && (uint64_t)c[d] < m->dims[d];
            if (inside)
                memcpy(&v,
                       (const char *)(uintptr_t)(m->at + (uint64_t)c[0] * 2 +
                                                 (uint64_t)c[1] * m->strides[0] +
                                                 (uint64_t)c[2] * m->strides[1]),
                       sizeof v);
            memcpy(at_shared(swizzled(at + j * row + i * 2, (int)row), sizeof v), &v, sizeof v);
        }
    barrier_bits *const b = barrier_at(l.barrier);
    b->bytes -= (int)(row * m->box[1]);
    advance(l.barrier, b);
    return 1;
}

/* --------------------------------------------------------------- ordinary writes to operands */

void emb_shim_async_written(const void *to) {
    size_t bytes;
    const unsigned char *const base = emb_shim_dynamic_array(&bytes);
    const size_t at = (size_t)((const unsigned char *)to - base);
    lane *const l = this_lane();
    if (at >= bytes)
        return;
    now.unfenced[at / CHUNK] = 1;
    if (l->written < MAX_WRITTEN) /* kernels without products never fence */
        l->chunks[l->written++] = (unsigned)(at / CHUNK);
}

void emb_shim_async_fence(void) {
    lane *const l = this_lane();
    for (int i = 0; i < l->written; i++)
        now.unfenced[l->chunks[i]] = 0;
    l->written = 0;
}

/* ---------------------------------------------------------------------------------- products */

void emb_shim_wgmma_fence(void) {
    this_lane()->fenced = 1;
}

void emb_shim_wgmma_commit(void) {
    lane *const l = this_lane();
    l->groups++;
    l->fenced = 0;
}

static int same_product(const product *p, const product *q) {
    return p->a == q->a && p->b == q->b && p->n == q->n && p->widen == q->widen &&
           p->rows_of_b == q->rows_of_b && (p->add != 0) == (q->add != 0) && p->group == q->group;
}

void emb_shim_wgmma(float *d, int n, float (*widen)(uint16_t), uint64_t a, uint64_t b, int add,
                    int rows_of_b) {
    lane *const l = this_lane();
    const int group = emb_shim_thread() / WARPGROUP;
    const product p = {d, widen, a, b, n, add, rows_of_b, l->groups};
    const uint32_t at = l->issued++ % MAX_LOG;
    if (!l->fenced)
        emb_shim_fault("wgmma: no wgmma.fence before");
    if (l->products == MAX_PRODUCTS)
        emb_shim_fault("wgmma: more products under way than the emulation keeps");
    l->pending[l->products++] = p;
    if (now.logged[group][at] == l->issued) {
        if (!same_product(&p, &now.log[group][at]))
            emb_shim_fault("wgmma: the threads of a warpgroup issue different products");
        return;
    }
    now.log[group][at] = p;
    now.logged[group][at] = l->issued;
}

/* Element (row, k) of an operand, as its descriptor says; in_rows: row is the contiguous one. */
static float operand(const product *p, uint64_t descriptor, int row, int k, int in_rows) {
    const int layout = (int)(descriptor >> 62), width = layout == 1 ? 128 : 64;
    const unsigned start = (unsigned)(descriptor & 0x3fff) << 4;
    const unsigned along = (unsigned)(descriptor >> 16 & 0x3fff) << 4;
    const unsigned across8 = (unsigned)(descriptor >> 32 & 0x3fff) << 4;
    uint16_t v;
    if (layout != 1 && layout != 2)
        emb_shim_fault("wgmma: a layout that the emulation does not know");
    if ((descriptor >> 49 & 7) != 0 || (start & (unsigned)(7 * width) & ~0x7fu) != 0)
        emb_shim_fault("wgmma: the pattern of a swizzled tile starts inside it");
    const unsigned r = (unsigned)(in_rows ? k : row), c = (unsigned)(in_rows ? row : k);
    const unsigned per = (unsigned)width / 2; /* elements a row of the tile */
    const unsigned address = start + r % 8 * (unsigned)width + r / 8 * across8 + c % per * 2 +
                             (in_rows ? c / per * along : 0);
    const unsigned at = swizzled(address & 0x3ffff, width);
    memcpy(&v, at_shared(at, sizeof v), sizeof v);
    if (now.unfenced[(at - WINDOW) / CHUNK])
        emb_shim_fault("wgmma: an operand that was copied without fence.proxy.async");
    return p->widen(v);
}

/* One product, for the 32 lanes from `first` on: 16 rows of a, k ascending. */
static void multiply(int first, int which) {
    static float b[16][MAX_N], c[MAX_N];
    const product *const p = &now.lanes[first].pending[which];
    const int warp = first % WARPGROUP / LANES;
    for (int n = 0; n < p->n; n++)
        for (int k = 0; k < 16; k++)
            b[k][n] = operand(p, p->b, n, k, p->rows_of_b);
    for (int row = 0; row < 16; row++) {
        float a[16];
        for (int k = 0; k < 16; k++)
            a[k] = operand(p, p->a, 16 * warp + row, k, 0);
        lane *const quad = &now.lanes[first + row % 8 * 4];
        for (int n = 0; n < p->n; n++)
            c[n] = p->add ? quad[n % 8 / 2].pending[which].d[n / 8 * 4 + row / 8 * 2 + n % 2] : 0;
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < p->n; n++)
                c[n] += a[k] * b[k][n];
        for (int n = 0; n < p->n; n++)
            quad[n % 8 / 2].pending[which].d[n / 8 * 4 + row / 8 * 2 + n % 2] = c[n];
    }
}

static void multiply_pending(unsigned char (*slot)[EMB_SHIM_SLOT]) {
    const int first = emb_shim_thread() / LANES * LANES;
    lane *const l = &now.lanes[first];
    int newest, done = 0;
    memcpy(&newest, slot[0], sizeof newest);
    for (; done < l->products && l->pending[done].group < l->groups - newest; done++) {
        for (int i = 1; i < LANES; i++)
            if (l[i].products != l->products ||
                !same_product(&l->pending[done], &l[i].pending[done]))
                emb_shim_fault("wgmma: the threads of a warp issue different products");
        multiply(first, done);
    }
    for (int i = 0; i < LANES; i++) {
        l[i].products -= done;
        memmove(l[i].pending, l[i].pending + done, (size_t)l[i].products * sizeof l[i].pending[0]);
    }
}

void emb_shim_wgmma_wait(int newest) {
    emb_shim_exchange("wgmma.wait_group", &newest, sizeof newest, multiply_pending);
}

/* ------------------------------------------------------------------------------------ blocks */

void emb_shim_async_start(int threads) {
    now.threads = threads;
    now.loads = 0;
    for (int t = 0; t < threads; t++)
        now.lanes[t].products = now.lanes[t].groups = now.lanes[t].fenced = now.lanes[t].written =
            0,
        now.lanes[t].issued = 0;
    for (int g = 0; g < (threads + WARPGROUP - 1) / WARPGROUP; g++)
        memset(now.logged[g], 0, sizeof now.logged[g]);
    memset(now.unfenced, 0, sizeof now.unfenced);
}

const char *emb_shim_async_finish(void) {
    if (now.loads > 0)
        return "the block ended with a bulk copy under way";
    for (int t = 0; t < now.threads; t++) {
        if (now.lanes[t].products > 0)
            return "wgmma: products that nobody waited for";
        if (now.lanes[t].issued != now.lanes[t / WARPGROUP * WARPGROUP].issued)
            return "wgmma: not all warps of a warpgroup issued the same products";
    }
    return NULL;
}

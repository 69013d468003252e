#include "kernels/gemm/gemm.h"

#include "base/dtype.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/isa.h"

/* Geometry of a task. x rows of a block are copied into scratch (LDX floats apart, an odd number of
 * cache lines, so that the rows of a tile do not compete for the same cache sets); block_rows of
 * them and the part of y they belong to stay in the second-level cache while panels pass. */
enum {
    BLOCK_ROWS = 448,
    LDX = EMB_GEMM_KC + 16,
    LDSUMS = 128 + 16,
    TASK_COLUMNS = 384, /* at most */
    STRIP_ROWS = 56,    /* rows between visits of the epilogue: their outputs fit the first level */
    TASKS_PER_THREAD = 8,
    PLAN_GROUPS = 64
};
#define TASK_MIN_WORK ((int64_t)1 << 19) /* multiply-adds: some 5 us, far above a task's cost */

struct group_plan {
    const emb_gemm_group *group;
    size_t first_task;
    int64_t n, k;
    int64_t rows, columns; /* of a task */
    int64_t column_tasks;
};

struct plan {
    struct group_plan groups[PLAN_GROUPS];
    size_t count;
    emb_exec *exec;
    emb_activation act;
};

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t outputs_of(const emb_weight *w) {
    return w->layout == EMB_GEMM_NT ? w->m.rows : w->m.cols;
}

static int64_t inputs_of(const emb_weight *w) {
    return w->layout == EMB_GEMM_NT ? w->m.cols : w->m.rows;
}

size_t emb_gemm_scratch_bytes(const emb_isa *isa) {
    return ((size_t)BLOCK_ROWS * (LDX + LDSUMS) + (size_t)EMB_GEMM_KC * (size_t)isa->tile->nr) *
           sizeof(float);
}

/* ------------------------------------------------------------------------------------ pack */

/* The packed copy: panels of nr columns one after another, each K x nr. */
embed_status emb_gemm_packed_bytes(const emb_isa *isa, const emb_weight *w, size_t *bytes) {
    embed_status st;
    const int64_t panels = ceil_div(outputs_of(w), isa->tile->nr);
    size_t floats;
    *bytes = 0;
    EMB_TRY(emb_mul((size_t)panels * (size_t)isa->tile->nr, (size_t)inputs_of(w), "packed weight",
                    &floats));
    EMB_TRY(emb_mul(floats, sizeof(float), "packed weight", bytes));
    return EMBED_OK;
fail:
    return st;
}

/* Panel of columns n0 .. and k0 .. of the weight as it lies. */
static void pack_panel(const emb_gemm_tile *tile, const emb_weight *w, int64_t n0, int64_t n,
                       int64_t k0, int64_t kc, float *panel) {
    const int64_t ldw = w->m.cols;
    const int64_t first = w->layout == EMB_GEMM_NT ? n0 * ldw + k0 : k0 * ldw + n0;
    const char *data = (const char *)w->m.data + first * (int64_t)emb_dtype_bytes(w->m.dtype);
    if (w->layout == EMB_GEMM_NT)
        tile->pack_nt(panel, data, ldw, w->m.dtype, n, kc);
    else
        tile->pack_nn(panel, data, ldw, w->m.dtype, n, kc);
}

void emb_gemm_pack(const emb_isa *isa, const emb_weight *w, float *packed) {
    const int64_t n = outputs_of(w), k = inputs_of(w), nr = isa->tile->nr;
    for (int64_t n0 = 0; n0 < n; n0 += nr)
        for (int64_t k0 = 0; k0 < k; k0 += EMB_GEMM_KC)
            pack_panel(isa->tile, w, n0, min64(n - n0, nr), k0, min64(k - k0, EMB_GEMM_KC),
                       packed + n0 * k + k0 * nr);
}

/* ------------------------------------------------------------------------------------ plan */

/* A product with y itself needs y's old contents until the sums are complete. */
static int in_scratch(const emb_gemm_group *g) {
    return g->mul != NULL && g->mul == g->y;
}

/* Cut one group into tasks of about `work` multiply-adds: as many rows as a block takes, then as
 * many panels as the work allows; if one panel is too much already, fewer rows. */
static void plan_group(struct group_plan *g, const emb_gemm_group *group, const emb_gemm_tile *tile,
                       int64_t work) {
    const int64_t m = group->m, nr = tile->nr, mr = tile->mr;
    g->group = group;
    g->n = outputs_of(group->w);
    g->k = inputs_of(group->w);
    const int64_t panels = ceil_div(g->n, nr);
    const int64_t panel_rows = work / ((g->k + 1) * nr) + 1; /* rows x panels of a task */
    int64_t rows = ceil_div(m, ceil_div(m, BLOCK_ROWS));
    if (panel_rows < rows)
        rows = ceil_div(m, ceil_div(m, panel_rows));
    g->rows = min64(ceil_div(rows, mr) * mr, BLOCK_ROWS);
    const int64_t columns_max = in_scratch(group) ? LDSUMS : TASK_COLUMNS;
    int64_t per_task = min64(panel_rows / g->rows + 1, columns_max / nr);
    per_task = ceil_div(panels, ceil_div(panels, per_task));
    g->columns = per_task * nr;
    g->column_tasks = ceil_div(g->n, g->columns);
}

static int64_t work_of(const emb_gemm_group *g) {
    return g->m * outputs_of(g->w) * (inputs_of(g->w) + 1);
}

/* ----------------------------------------------------------------------------------- tasks */

static void copy_rows(const emb_gemm_group *g, int64_t m0, int64_t m, int64_t k0, int64_t kc,
                      float *block) {
    for (int64_t i = 0; i < m; i++) {
        const int64_t row = g->x_rows != NULL ? g->x_rows[m0 + i] : m0 + i;
        memcpy(block + i * LDX, g->x + row * g->ldx + k0, (size_t)kc * sizeof(float));
    }
}

/* What a task works on. */
struct block {
    const struct plan *plan;
    const emb_gemm_group *g;
    const float *x; /* rows of the block, ldx apart */
    float *sums;    /* where sums of k-blocks grow: y itself, or scratch if mul is y */
    int64_t m0, m, n_first, ldx, ldsums;
};

/* One panel times the block's rows, strip by strip, the last k-block followed by the epilogue. */
static void multiply_panel(const struct block *b, int64_t n0, int64_t n, int64_t kc,
                           const float *panel, int first, int last) {
    const emb_gemm_tile *tile = b->plan->exec->isa->tile;
    const emb_gemm_group *g = b->g;
    const int64_t strip = ceil_div(b->m, ceil_div(b->m, STRIP_ROWS));
    for (int64_t i = 0; i < b->m; i += strip) {
        const int64_t rows = min64(strip, b->m - i);
        float *sums = b->sums + i * b->ldsums + (n0 - b->n_first);
        tile->multiply(rows, n, kc, b->x + i * b->ldx, b->ldx, panel, sums, b->ldsums, !first);
        if (last)
            tile->finish((int32_t)b->plan->act, rows, n, sums, b->ldsums,
                         g->bias != NULL ? g->bias + n0 : NULL,
                         g->mul != NULL ? g->mul + (b->m0 + i) * g->ldmul + n0 : NULL, g->ldmul,
                         g->y + (b->m0 + i) * g->ldy + n0, g->ldy);
    }
}

static void run_task(void *arg, size_t task, int thread) {
    const struct plan *p = arg;
    const emb_gemm_tile *tile = p->exec->isa->tile;
    size_t i = p->count - 1;
    while (task < p->groups[i].first_task)
        i--;
    const struct group_plan *gp = &p->groups[i];
    const emb_gemm_group *g = gp->group;
    const int64_t t = (int64_t)(task - gp->first_task);
    const int64_t n_first = t % gp->column_tasks * gp->columns;
    const int64_t n_end = min64(n_first + gp->columns, gp->n);
    float *panel = emb_exec_scratch(p->exec, thread);
    float *rows = panel + EMB_GEMM_KC * tile->nr;
    struct block b = {.plan = p, .g = g, .x = rows, .ldx = LDX, .n_first = n_first};
    b.m0 = t / gp->column_tasks * gp->rows;
    b.m = min64(gp->rows, g->m - b.m0);
    b.sums = in_scratch(g) ? rows + BLOCK_ROWS * LDX : g->y + b.m0 * g->ldy + n_first;
    b.ldsums = in_scratch(g) ? LDSUMS : g->ldy;
    int64_t k0 = 0;
    do {
        const int64_t kc = min64(gp->k - k0, EMB_GEMM_KC);
        copy_rows(g, b.m0, b.m, k0, kc, rows);
        for (int64_t n0 = n_first; n0 < n_end; n0 += tile->nr) {
            const int64_t n = min64(n_end - n0, tile->nr);
            const float *packed = panel;
            if (g->w->packed != NULL)
                packed = g->w->packed + n0 * gp->k + k0 * tile->nr;
            else
                pack_panel(tile, g->w, n0, n, k0, kc, panel);
            multiply_panel(&b, n0, n, kc, packed, k0 == 0, k0 + kc == gp->k);
        }
        k0 += kc;
    } while (k0 < gp->k);
}

embed_status emb_gemm(emb_exec *exec, const emb_gemm_group *groups, size_t n_groups,
                      emb_activation act) {
    struct plan p;
    int64_t work = 0;
    size_t tasks = 0;
    p.exec = exec;
    p.act = act;
    p.count = 0;
    for (size_t i = 0; i < n_groups; i++)
        work += work_of(&groups[i]);
    work = work / (TASKS_PER_THREAD * emb_pool_threads(exec->pool));
    if (work < TASK_MIN_WORK)
        work = TASK_MIN_WORK;
    for (size_t i = 0; i < n_groups; i++) {
        if (groups[i].m > 0 && outputs_of(groups[i].w) > 0) {
            struct group_plan *g = &p.groups[p.count++];
            plan_group(g, &groups[i], exec->isa->tile, work);
            g->first_task = tasks;
            tasks += (size_t)(ceil_div(groups[i].m, g->rows) * g->column_tasks);
        }
        if (p.count == PLAN_GROUPS || i + 1 == n_groups) {
            emb_pool_run(exec->pool, tasks, run_task, &p);
            p.count = tasks = 0;
        }
    }
    return EMBED_OK;
}

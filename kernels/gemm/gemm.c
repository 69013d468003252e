#include "kernels/gemm/gemm.h"

#include "base/dtype.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/isa.h"

/* A task is a block of rows times a run of panels. For each group of k-blocks of x that fits
 * X_ROWS x KC floats, panels pass one after another, each times all rows, so that x stays in the
 * second-level cache, a panel in the first, and y is visited once a group. */
enum {
    X_ROWS = 448,          /* rows x k-blocks of x at once: 0.45 MB */
    ROWS_MAX = 224,        /* of a task: spreads the cost of packing a panel */
    ROWS_MAX_PACKED = 112, /* where that costs nothing: more k-blocks at once */
    STRIP_ROWS = 56, /* rows between visits of the epilogue: their outputs fit the first level */
    LDX = EMB_GEMM_KC + 16, /* of copied x: an odd number of cache lines, see x_in_place */
    LDSUMS = 128 + 16,
    TASKS_PER_THREAD = 16,
    PACK_ROWS = 24, /* fetching and packing a panel takes as long as multiplying so many rows */
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
    size_t count, tasks;
    emb_exec *exec;
    emb_activation act;
};

/* What a task works on. */
struct block {
    const emb_gemm_tile *tile;
    const emb_gemm_group *g;
    int64_t m0, m, n_first, n_end, k;
    int64_t strip;
    int64_t k_first, k_end; /* the group of k-blocks at hand */
    float *x;               /* its copied rows, or NULL: used where they lie */
    float *sums;            /* where sums of k-blocks grow: y itself, or scratch if mul is y */
    int64_t ldsums;
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
    return ((size_t)X_ROWS * LDX + (size_t)ROWS_MAX * LDSUMS +
            (size_t)EMB_GEMM_KC * (size_t)isa->tile->nr) *
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

/* Pieces of at most `most`, nearly equal and, if more than one, multiples of `unit`. */
static int64_t even_piece(int64_t total, int64_t most, int64_t unit) {
    const int64_t pieces = ceil_div(total, most < unit ? unit : most / unit * unit);
    return pieces == 1 ? total : ceil_div(ceil_div(total, pieces), unit) * unit;
}

/* Cut one group into tasks of about `work` (see work_of): as many rows as a block takes, then as
 * many panels as the work allows; if one panel is too much already, fewer rows. */
static void plan_group(struct group_plan *g, const emb_gemm_group *group, const emb_gemm_tile *tile,
                       int64_t work) {
    const int64_t nr = tile->nr, mr = tile->mr;
    g->group = group;
    g->n = outputs_of(group->w);
    g->k = inputs_of(group->w);
    const int64_t panel_rows = work / ((g->k + 1) * nr); /* rows times panels of a task */
    const int64_t rows_max = group->w->packed != NULL ? ROWS_MAX_PACKED : ROWS_MAX;
    g->rows = even_piece(group->m, rows_max, mr);
    if (panel_rows < g->rows + PACK_ROWS)
        g->rows = even_piece(group->m, panel_rows - PACK_ROWS, mr);
    int64_t panels = panel_rows / (g->rows + PACK_ROWS);
    if (in_scratch(group) && panels > LDSUMS / nr)
        panels = LDSUMS / nr;
    g->columns = even_piece(ceil_div(g->n, nr), panels < 1 ? 1 : panels, 1) * nr;
    g->column_tasks = ceil_div(g->n, g->columns);
}

/* Multiply-adds, and packing counted as such. */
static int64_t work_of(const emb_gemm_group *g) {
    return (g->m + PACK_ROWS) * outputs_of(g->w) * (inputs_of(g->w) + 1);
}

/* ---------------------------------------------------------------------------- looking ahead */

/* Ask for the lines of *a evenly over `steps` steps. */
static void spread(emb_gemm_ahead *a, int64_t steps) {
    a->per_step = steps > 0 ? ceil_div(a->rows * ceil_div(a->row_bytes, 64), steps) : 0;
}

/* The weights that make panel n0 of k-block k0. */
static emb_gemm_ahead weights_ahead(const struct block *b, int64_t n0, int64_t k0) {
    const emb_weight *w = b->g->w;
    const int64_t nr = b->tile->nr, kc = min64(b->k - k0, EMB_GEMM_KC);
    const int64_t element = (int64_t)emb_dtype_bytes(w->m.dtype), ldw = w->m.cols;
    emb_gemm_ahead a = {.rows = 1, .stride = ldw * element};
    if (w->packed != NULL) {
        a.base = (const char *)(w->packed + n0 * b->k + k0 * nr);
        a.row_bytes = kc * nr * (int64_t)sizeof(float);
    } else if (w->layout == EMB_GEMM_NT) {
        a.base = (const char *)w->m.data + (n0 * ldw + k0) * element;
        a.row_bytes = kc * element;
        a.rows = min64(b->n_end - n0, nr);
    } else {
        a.base = (const char *)w->m.data + (k0 * ldw + n0) * element;
        a.row_bytes = min64(b->n_end - n0, nr) * element;
        a.rows = kc;
    }
    return a;
}

/* Rows i .. i + rows - 1 of the block's x in k-block k0. */
static emb_gemm_ahead x_ahead(const struct block *b, int64_t i, int64_t rows, int64_t k0) {
    const emb_gemm_group *g = b->g;
    emb_gemm_ahead a = {.rows = rows, .stride = g->ldx * (int64_t)sizeof(float)};
    a.row_bytes = min64(b->k - k0, EMB_GEMM_KC) * (int64_t)sizeof(float);
    a.base = (const char *)(g->x + k0);
    if (g->x_rows != NULL)
        a.index = g->x_rows + b->m0 + i;
    else
        a.base += (b->m0 + i) * a.stride;
    return a;
}

/* ----------------------------------------------------------------------------------- tasks */

/* Whether tiles read x where it lies. Not if its rows are gathered; nor if they start a multiple
 * of 2 KiB apart: the rows of a tile would then compete for half of the first-level cache or
 * less. */
static int x_in_place(const emb_gemm_group *g) {
    return g->x_rows == NULL && g->ldx % 512 != 0;
}

static void copy_rows(const emb_gemm_group *g, int64_t m0, int64_t m, int64_t k0, int64_t kc,
                      float *to) {
    for (int64_t i = 0; i < m; i++) {
        const int64_t row = g->x_rows != NULL ? g->x_rows[m0 + i] : m0 + i;
        memcpy(to + i * LDX, g->x + row * g->ldx + k0, (size_t)kc * sizeof(float));
    }
}

static void finish_strip(const struct block *b, int64_t n0, int64_t n, int64_t i, int64_t rows,
                         const float *sums) {
    const emb_gemm_group *g = b->g;
    const float *bias = g->bias != NULL ? g->bias + n0 : NULL;
    const float *mul = g->mul != NULL ? g->mul + (b->m0 + i) * g->ldmul + n0 : NULL;
    b->tile->finish((int32_t)b->act, rows, n, sums, b->ldsums, bias, mul, g->ldmul,
                    g->y + (b->m0 + i) * g->ldy + n0, g->ldy);
}

/* One panel times the block's rows, strip by strip, the last k-block followed by the epilogue. The
 * first panel to come along brings in x, each strip while the one before is multiplied. */
static void multiply_panel(const struct block *b, int64_t n0, int64_t k0, const float *panel,
                           emb_gemm_ahead next) {
    const int64_t kc = min64(b->k - k0, EMB_GEMM_KC), n = min64(b->n_end - n0, b->tile->nr);
    const int64_t steps = ceil_div(kc, EMB_GEMM_AHEAD_STEP);
    emb_gemm_ahead ahead[2] = {next, {0}};
    spread(&ahead[0], ceil_div(b->m, b->tile->mr) * steps);
    for (int64_t i = 0; i < b->m; i += b->strip) {
        const int64_t rows = min64(b->strip, b->m - i), after = b->m - i - rows;
        if (n0 == b->n_first) {
            ahead[1] = x_ahead(b, i + rows, min64(b->strip, after), k0);
            spread(&ahead[1], ceil_div(rows, b->tile->mr) * steps);
        }
        const float *x;
        if (b->x != NULL) {
            float *copy = b->x + ((k0 - b->k_first) / EMB_GEMM_KC * b->m + i) * LDX;
            if (n0 == b->n_first)
                copy_rows(b->g, b->m0 + i, rows, k0, kc, copy);
            x = copy;
        } else {
            x = b->g->x + (b->m0 + i) * b->g->ldx + k0;
        }
        float *sums = b->sums + i * b->ldsums + (n0 - b->n_first);
        b->tile->multiply_ahead(rows, n, kc, x, b->x != NULL ? LDX : b->g->ldx, panel, sums,
                                b->ldsums, k0 > 0, ahead);
        if (k0 + kc == b->k)
            finish_strip(b, n0, n, i, rows, sums);
    }
}

/* All panels of the block in the group of k-blocks at hand; `scratch` holds one panel. */
static void multiply_group(const struct block *b, float *scratch) {
    const emb_weight *w = b->g->w;
    const int64_t nr = b->tile->nr;
    for (int64_t n0 = b->n_first; n0 < b->n_end; n0 += nr) {
        int64_t k0 = b->k_first;
        do { /* once, too, for K = 0 */
            const int64_t kc = min64(b->k - k0, EMB_GEMM_KC);
            const float *panel = scratch;
            if (w->packed != NULL)
                panel = w->packed + n0 * b->k + k0 * nr;
            else
                pack_panel(b->tile, w, n0, min64(b->n_end - n0, nr), k0, kc, scratch);
            emb_gemm_ahead next = {0};
            if (k0 + kc < b->k_end)
                next = weights_ahead(b, n0, k0 + kc);
            else if (n0 + nr < b->n_end)
                next = weights_ahead(b, n0 + nr, b->k_first);
            else if (b->k_end < b->k)
                next = weights_ahead(b, b->n_first, b->k_end);
            multiply_panel(b, n0, k0, panel, next);
            k0 += kc;
        } while (k0 < b->k_end);
    }
}

static void run_task(void *arg, size_t task, int thread) {
    const struct plan *p = arg;
    size_t i = p->count - 1;
    while (task < p->groups[i].first_task)
        i--;
    const struct group_plan *gp = &p->groups[i];
    const emb_gemm_group *g = gp->group;
    const int64_t t = (int64_t)(task - gp->first_task);
    struct block b = {.tile = p->exec->isa->tile, .g = g, .k = gp->k, .act = p->act};
    float *panel = emb_exec_scratch(p->exec, thread);
    float *x = panel + EMB_GEMM_KC * b.tile->nr;
    b.x = x_in_place(g) ? NULL : x;
    b.m0 = t / gp->column_tasks * gp->rows;
    b.m = min64(gp->rows, g->m - b.m0);
    b.strip = even_piece(b.m, STRIP_ROWS, b.tile->mr);
    b.n_first = t % gp->column_tasks * gp->columns;
    b.n_end = min64(b.n_first + gp->columns, gp->n);
    b.sums = in_scratch(g) ? x + X_ROWS * LDX : g->y + b.m0 * g->ldy + b.n_first;
    b.ldsums = in_scratch(g) ? LDSUMS : g->ldy;
    const int64_t k_group = X_ROWS / b.m * EMB_GEMM_KC;
    do {
        b.k_end = min64(b.k_first + k_group, b.k);
        multiply_group(&b, panel);
        b.k_first = b.k_end;
    } while (b.k_first < b.k);
}

static void run_plan(struct plan *p) {
    emb_pool_run(p->exec->pool, p->tasks, run_task, p);
    p->count = p->tasks = 0;
}

embed_status emb_gemm(emb_exec *exec, const emb_gemm_group *groups, size_t n_groups,
                      emb_activation act) {
    struct plan p;
    int64_t work = 0;
    p.exec = exec;
    p.act = act;
    p.count = p.tasks = 0;
    for (size_t i = 0; i < n_groups; i++)
        work += groups[i].m > 0 ? work_of(&groups[i]) : 0;
    if (emb_pool_threads(exec->pool) > 1)
        work /= TASKS_PER_THREAD * emb_pool_threads(exec->pool);
    if (work < TASK_MIN_WORK)
        work = TASK_MIN_WORK;
    for (size_t i = 0; i < n_groups; i++) {
        if (groups[i].m == 0 || outputs_of(groups[i].w) == 0)
            continue;
        struct group_plan *g = &p.groups[p.count++];
        plan_group(g, &groups[i], exec->isa->tile, work);
        g->first_task = p.tasks;
        p.tasks += (size_t)(ceil_div(groups[i].m, g->rows) * g->column_tasks);
        if (p.count == PLAN_GROUPS)
            run_plan(&p);
    }
    if (p.count > 0)
        run_plan(&p);
    return EMBED_OK;
}

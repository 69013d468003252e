/* isa: the table of per-ISA functions. One constant table per instruction set, chosen when a model
 * is opened; all tables give the same bits. Each operation adds what it needs here. */
#ifndef EMB_KERNELS_ISA_H
#define EMB_KERNELS_ISA_H

#include "base/status.h"
#include "kernels/exec.h"

struct emb_gemm_tile; /* kernels/gemm/gemm_tile.h */
struct emb_rows;      /* kernels/rows.h */

struct emb_isa {
    int32_t id; /* embed_isa, never AUTO */
    int32_t reserved;
    const char *name; /* "portable", "avx2", "avx512" */
    const struct emb_gemm_tile *tile;
    const struct emb_rows *rows;
};

#define EMB_ISA_MAX 3 /* tables there are */

/* The table for `wanted` (embed_isa; AUTO: the best that CPU and operating system run).
 * Errors: _ARG for an unknown number, _UNSUPPORTED naming wanted and available. */
embed_status emb_isa_select(const emb_isa **out, int32_t wanted);

/* All tables this machine runs, slowest first; returns how many (at least 1). */
size_t emb_isa_list(const emb_isa *list[EMB_ISA_MAX]);

#endif

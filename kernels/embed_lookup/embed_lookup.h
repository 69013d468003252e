/* embed_lookup: x[t,:] = LN(word[ids[t],:] + position[positions[t],:] + type[0,:])
 *
 * word [V,D], position [P,D], type [>=1,D]: F32, F16 or BF16; position, type and the layer norm are
 * left out where NULL (gamma NULL: no norm). rows[t], where rows and rows[t] are not NULL, points
 * to D floats that replace the word embedding (n-gram table) or, with add_rows, are added to it.
 * Sums left to right as written, then layer norm as kernels/layernorm. x [T,D] f32.
 * bytes ~ (4 + elt) * T * D   bound DRAM (random rows)   limits ids and positions already checked
 */
#ifndef EMB_KERNELS_EMBED_LOOKUP_H
#define EMB_KERNELS_EMBED_LOOKUP_H

#include "kernels/exec.h"

typedef struct emb_embed_lookup_args {
    const int32_t *ids;
    const int32_t *positions; /* NULL if position.data is NULL */
    emb_matrix word, position, type;
    const float *const *rows;
    int32_t add_rows;
    float eps;
    const float *gamma, *beta; /* [D]; beta may be NULL */
    float *x;
    int64_t tokens, dim;
} emb_embed_lookup_args;

embed_status emb_embed_lookup(emb_exec *exec, const emb_embed_lookup_args *args);

#endif

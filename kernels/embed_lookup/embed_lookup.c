#include "kernels/embed_lookup/embed_lookup.h"

#include "kernels/isa.h"
#include "kernels/rows.h"

embed_status emb_embed_lookup(emb_exec *exec, const emb_embed_lookup_args *args) {
    if (args->tokens < 0 || args->dim < 1)
        return emb_fail(EMBED_ERR_INTERNAL, "embed_lookup: %lld rows of %lld floats",
                        (long long)args->tokens, (long long)args->dim);
    emb_rows_run(exec, exec->isa->rows->embed_lookup, args, args->tokens, 16 * (size_t)args->dim);
    return EMBED_OK;
}

#include "kernels/moe_combine/moe_combine.h"

#include "kernels/isa.h"
#include "kernels/rows.h"

embed_status emb_moe_combine(emb_exec *exec, const emb_moe_combine_args *args) {
    if (args->tokens < 0 || args->dim < 1 || args->top_k < 1)
        return emb_fail(EMBED_ERR_INTERNAL, "moe_combine: %lld rows of %lld floats, top_k %d",
                        (long long)args->tokens, (long long)args->dim, (int)args->top_k);
    emb_rows_run(exec, exec->isa->rows->moe_combine, args, args->tokens,
                 4 * (size_t)args->dim * (size_t)(args->top_k + 1));
    return EMBED_OK;
}

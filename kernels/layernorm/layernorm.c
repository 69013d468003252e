#include "kernels/layernorm/layernorm.h"

#include "kernels/isa.h"
#include "kernels/rows.h"

embed_status emb_layernorm(emb_exec *exec, const emb_layernorm_args *args) {
    if (args->tokens < 0 || args->dim < 1)
        return emb_fail(EMBED_ERR_INTERNAL, "layernorm: %lld rows of %lld floats",
                        (long long)args->tokens, (long long)args->dim);
    emb_rows_run(exec, exec->isa->rows->layernorm, args, args->tokens, 12 * (size_t)args->dim);
    return EMBED_OK;
}

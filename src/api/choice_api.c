#include <stdio.h>

#include "api/params.h"
#include "model/device_group.h"

static const char *const names[EMB_DENSES] = {"qkv", "out", "up", "gate", "down"};

embed_status embed_context_get_choice(const embed_context *ctx, int32_t i,
                                      embed_device_choice *choice) {
    embed_device_choice ours = {.strategy = EMBED_PRODUCTS_OWN};
    emb_choice c = {.strategy = EMBED_PRODUCTS_OWN};
    size_t n = 0;
    int there = 0;
    if (ctx == NULL || choice == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", ctx == NULL ? "ctx" : "choice");
    const emb_device_forward *f = ctx->group != NULL ? ctx->group->forwards[0] : ctx->device;
    if (f != NULL && i >= 0)
        there = emb_device_products_choice(&f->products, (size_t)i, &c, &n);
    if (i < 0 || (i > 0 && !there))
        return emb_fail(EMBED_ERR_ARG, "i: expected 0 to %d, found %d", n > 0 ? (int)n - 1 : 0, i);
    ours.count = (int32_t)n;
    ours.strategy = c.strategy;
    ours.own_us = c.own_us;
    ours.library_us = c.library_us;
    if (there) {
        ours.rows = c.rows;
        ours.columns = c.n;
        ours.depth = c.k;
        (void)snprintf(ours.name, sizeof ours.name, "%s",
                       c.what == EMB_CHOICE_ATTENTION ? "attention" : names[c.what]);
    }
    (void)snprintf(ours.algorithm, sizeof ours.algorithm, "%s", c.algorithm);
    (void)snprintf(ours.reason, sizeof ours.reason, "%s", c.reason);
    return emb_params_write(choice, &ours, sizeof ours, "embed_device_choice");
}

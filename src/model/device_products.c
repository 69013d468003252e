#include "model/device_products.h"

static void describe(emb_device_products *p, const embed_model *m) {
    const emb_encoder_config *c = &m->config.encoder;
    const int64_t hidden = c->hidden, inner = c->inner;
    const int32_t plain = EMB_CUDA_ACT_NONE;
    p->shapes[EMB_DENSE_QKV] = (emb_dense_shape){3 * hidden, hidden, plain, 0};
    p->shapes[EMB_DENSE_OUT] = (emb_dense_shape){hidden, hidden, plain, 0};
    if (m->moe_layers == c->layers)
        return;
    p->shapes[EMB_DENSE_UP] =
        (emb_dense_shape){inner, hidden, c->gated ? plain : (int32_t)c->activation, 0};
    if (c->gated)
        p->shapes[EMB_DENSE_GATE] = (emb_dense_shape){inner, hidden, (int32_t)c->activation, 1};
    p->shapes[EMB_DENSE_DOWN] = (emb_dense_shape){hidden, inner, plain, 0};
}

embed_status emb_device_products_create(emb_device_products *p, emb_device *device,
                                        const embed_model *model, int32_t dtype) {
    *p = (emb_device_products){.device = device, .dtype = dtype};
    describe(p, model);
    return emb_op_find(device, "gemm", &p->gemm);
}

embed_status emb_device_products_own(const emb_device_products *p, emb_stream *s,
                                     emb_cuda_gemm_args a) {
    a.ldx = a.k;
    a.ldy = a.ldmul = a.n;
    a.groups = a.groups > 0 ? a.groups : 1;
    a.tf32 = p->tf32 && a.dtype == 0 && p->dtype == EMBED_F32;
    a.dtype = a.dtype != 0 ? a.dtype : p->dtype;
    return emb_op_run(s, p->gemm, &a, sizeof a);
}

embed_status emb_device_products_run(emb_device_products *p, emb_stream *s, emb_dense which,
                                     const emb_dense_args *a) {
    const emb_dense_shape *shape = &p->shapes[which];
    return emb_device_products_own(p, s,
                                   (emb_cuda_gemm_args){.x = a->x,
                                                        .w = (void *)(uintptr_t)a->w.at,
                                                        .bias = (void *)(uintptr_t)a->bias.at,
                                                        .mul = a->mul,
                                                        .y = a->y,
                                                        .count = a->count,
                                                        .m = a->m,
                                                        .n = shape->n,
                                                        .k = shape->k,
                                                        .act = shape->act});
}

#include "device/device_impl.h"

struct emb_attention_plan {
    emb_device *device;
    emb_be_attention *inner;
    emb_attention_facts facts;
};

static embed_status check_spec(const emb_attention_spec *s) {
    if (s->texts < 1 || s->longest < 1 || s->heads < 1 || s->head_dim < 1)
        return emb_fail(EMBED_ERR_INTERNAL,
                        "attention: expected sizes of 1 and more, found %lld texts of %lld, %d "
                        "heads of %d",
                        (long long)s->texts, (long long)s->longest, s->heads, s->head_dim);
    if (s->dtype != EMBED_F16 && s->dtype != EMBED_BF16)
        return emb_fail(EMBED_ERR_UNSUPPORTED, "attention by a library: expected f16 or bf16");
    if (s->head_dim % 8 != 0)
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        "attention by a library: expected heads of a multiple of 8 dimensions, "
                        "found %d",
                        s->head_dim);
    return EMBED_OK;
}

embed_status emb_attention_plan_create(emb_attention_plan **out, emb_device *d,
                                       const emb_attention_spec *spec) {
    embed_status st;
    emb_attention_plan *a = NULL;
    emb_device_error err = {""};
    *out = NULL;
    EMB_TRY(emb_device_check(d));
    EMB_TRY(check_spec(spec));
    EMB_TRY(emb_new(emb_device_env(d), sizeof *a, (void **)&a));
    a->device = d;
    EMB_TRY(emb_device_outcome(d,
                               emb_device_backend(d)->attention_create(emb_device_inner(d), spec,
                                                                       &a->inner, &a->facts, &err),
                               &err, "planning attention"));
    *out = a;
    return EMBED_OK;
fail:
    emb_attention_plan_free(a);
    return st;
}

void emb_attention_plan_free(emb_attention_plan *a) {
    if (a == NULL)
        return;
    if (a->inner != NULL && emb_device_is_ours(a->device))
        emb_device_backend(a->device)->attention_free(a->inner);
    emb_free(emb_device_env(a->device), a);
}

const emb_attention_facts *emb_attention_plan_facts(const emb_attention_plan *a) {
    return &a->facts;
}

embed_status emb_attention_plan_run(emb_attention_plan *a, emb_stream *s,
                                    const emb_attention_args *args) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(a->device));
    if (emb_stream_device(s) != a->device || args->qkv.at == 0 || args->out.at == 0 ||
        args->lengths.at == 0 || args->qkv_offsets.at == 0 || args->out_offsets.at == 0 ||
        (a->facts.workspace_bytes > 0 && args->workspace.at == 0))
        return emb_fail(EMBED_ERR_INTERNAL,
                        "%s: attention: an operand is missing, or the stream is another device's",
                        emb_device_name(a->device));
    st = emb_device_outcome(
        a->device,
        emb_device_backend(a->device)->attention_run(a->inner, emb_stream_inner(s), args, &err),
        &err, "attention");
fail:
    return st;
}

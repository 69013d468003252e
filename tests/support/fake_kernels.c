#include "support/fake_kernels.h"

#include "support/test.h"

static float *floats(emb_dptr p) {
    return (float *)(uintptr_t)p.at;
}

static void scale(const emb_launch *l) {
    const fake_kernel_args *a = l->args;
    for (int64_t i = 0; i < a->n; i++)
        floats(a->out)[i] = a->scale * floats(a->in)[i] + a->add;
}

static void reach(const emb_launch *l) {
    const fake_kernel_args *a = l->args;
    floats(a->out)[a->reach] = a->add;
}

static void touch(const emb_launch *l) {
    (void)l;
}

static const uint16_t pointers[] = {offsetof(fake_kernel_args, in),
                                    offsetof(fake_kernel_args, out)};

typedef void (*any_fn)(void);
const emb_kernel_entry fake_kernels[] = {
    {"scale", (any_fn)scale, sizeof(fake_kernel_args), 0, pointers, 2, 0},
    {"reach", (any_fn)reach, sizeof(fake_kernel_args), 0, pointers, 2, 0},
    {"touch", (any_fn)touch, sizeof(fake_kernel_args), 1024, NULL, 0, 0}};
const size_t n_fake_kernels = sizeof fake_kernels / sizeof fake_kernels[0];

void fake_setup_make(fake_setup *s, uint64_t seed) {
    const emb_fake_params params = {
        .seed = seed, .kernels = fake_kernels, .n_kernels = n_fake_kernels};
    s->env = test_env();
    assert_int_equal(emb_fake_create(&s->fake, &s->env, &params), EMBED_OK);
    assert_int_equal(emb_device_open(&s->device, &s->env, emb_fake_backend(s->fake), 0), EMBED_OK);
    assert_int_equal(emb_stream_create(&s->stream, s->device), EMBED_OK);
}

void fake_setup_free(fake_setup *s) {
    emb_stream_free(s->stream);
    emb_device_close(s->device);
    assert_int_equal(emb_fake_live(s->fake), 0);
    emb_fake_free(s->fake);
}

embed_status fake_kernel_run(emb_stream *s, const char *name, const fake_kernel_args *args) {
    const emb_be_kernel *kernel;
    const emb_launch launch = {
        {(uint32_t)((args->n + 127) / 128), 1, 1}, {128, 1, 1}, 0, sizeof *args, args};
    embed_status st;
    EMB_TRY(emb_kernel_find(emb_stream_device(s), name, &kernel));
    EMB_TRY(emb_kernel_launch(s, kernel, &launch));
fail:
    return st;
}

/* model: an open checkpoint: configuration, weights, tokenizer, kernels, and what is computed from
 * them once. Immutable after opening but for the fields that say otherwise; shared by threads and
 * counted, so that contexts keep their model alive. */
#ifndef EMB_MODEL_MODEL_H
#define EMB_MODEL_MODEL_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/isa.h"
#include "model/weights.h"
#include "tokenizer/tokenizer.h"

#define EMB_DEFAULT_PACK_BYTES ((uint64_t)128 << 20)
#define EMB_FINGERPRINT_CHARS 33

struct embed_model {
    emb_env env;                /* counts into `allocated`, then asks `base` */
    emb_env base;               /* the caller's; contexts use it */
    _Atomic uint64_t allocated; /* bytes the open model holds */
    emb_config config;
    emb_weights weights;
    emb_tokenizer *tokenizer;
    const emb_isa *isa;
    float *cos, *sin;           /* [max_tokens, rotary_dim / 2]; NULL without rotary positions */
    float *packed;              /* rearranged weights of all layers, or NULL */
    uint64_t tokenizer_hash[2]; /* of the bytes of tokenizer.json, high half first */
    int32_t *special;           /* [n_special] ascending ids of special tokens */
    int32_t n_special;
    int32_t moe_layers;
    int32_t dim; /* width of a vector: after pooling and the dense modules */
    char name[128];

    _Atomic int32_t refs;
    _Atomic(emb_tok_scratch *) idle_scratch;    /* kept between calls of embed_tokenize */
    pthread_mutex_t mutex;                      /* guards the fingerprints below */
    char fingerprint[EMB_FINGERPRINT_CHARS];    /* "" until first asked for */
    char embedding_hash[EMB_FINGERPRINT_CHARS]; /* of the word embedding matrix; the same */
    pthread_mutex_t homes_mutex;                /* guards the next two, also while one is made */
    struct emb_device_home *homes;              /* devices that hold the weights too */
    _Atomic int64_t homes_pid;          /* the process that asked for one first, 0: none did */
    struct emb_device_choices *choices; /* how products run on kinds of devices */
};

/* params: complete (struct_size is not looked at). On failure *out is NULL. */
embed_status emb_model_open(embed_model **out, const char *path, const embed_model_params *params);
void emb_model_retain(embed_model *model);
void emb_model_release(embed_model *model); /* the last release frees; NULL is a no-op */

void emb_model_info(const embed_model *model, embed_model_info *info);

/* A tokenizer scratch for one short use: the idle one, or a new one. */
embed_status emb_model_borrow_scratch(embed_model *model, emb_tok_scratch **out);
void emb_model_return_scratch(embed_model *model, emb_tok_scratch *scratch);

#endif

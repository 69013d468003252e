/* device_weights: a model's weights in the memory of one device, uploaded once and shared by all
 * contexts there. One allocation, laid out in the order of the forward pass; every tensor starts at
 * a multiple of EMB_DEVICE_ALIGN, query, key and value and the experts of a layer lie end to end.
 * Matrices in the type of the forward pass, biases, norms, the router, angles and the modules
 * behind the pooling in f32. */
#ifndef EMB_MODEL_DEVICE_WEIGHTS_H
#define EMB_MODEL_DEVICE_WEIGHTS_H

#include "device/device.h"
#include "device/module.h"
#include "model/model.h"

/* Tensors of one layer; at 0: there is none. */
typedef struct emb_device_layer {
    emb_dptr qkv, qkv_bias; /* [3 hidden, hidden], [3 hidden] */
    emb_dptr out, out_bias; /* [hidden, hidden] */
    emb_dptr norm1_gamma, norm1_beta, norm2_gamma, norm2_beta;
    emb_dptr up, gate, down;                /* MoE: up [experts, inner, hidden], down the same */
    emb_dptr up_bias, gate_bias, down_bias; /* MoE: down_bias [hidden] for all experts */
    emb_dptr router, router_bias;
} emb_device_layer;

typedef struct emb_device_weights {
    emb_dptr word, position, type, norm_gamma, norm_beta;
    emb_dptr cos, sin; /* [max_tokens, rotary_dim / 2] */
    emb_device_layer *layers;
    struct {
        emb_dptr w, bias;
    } dense[EMB_MAX_DENSE];
    emb_dptr base;
    size_t bytes;
    int32_t dtype; /* EMBED_F32, EMBED_F16 or EMBED_BF16 */
    int32_t reserved;
} emb_device_weights;

/* Device memory they take. */
embed_status emb_device_weights_bytes(const embed_model *model, int32_t dtype, size_t *bytes);
/* Allocates, uploads and waits. On failure there is nothing to free. */
embed_status emb_device_weights_upload(emb_device_weights *w, emb_device *device,
                                       const embed_model *model, int32_t dtype);
void emb_device_weights_free(emb_device_weights *w, emb_device *device); /* zeroed: no-op */

/* A device that a model was brought to; part of the model until that is freed. */
typedef struct emb_device_home {
    struct emb_device_home *next;
    emb_device *device;
    const emb_backend *backend;
    int32_t index, reserved;
    emb_device_weights weights;
} emb_device_home;

/* The model's weights of this type on this device: those that are there, or uploaded now. Any
 * thread; whoever comes second waits. The backend must outlive the model. */
embed_status emb_device_home_get(const emb_device_home **out, embed_model *model,
                                 const emb_backend *backend, int32_t index, int32_t dtype);
void emb_device_homes_free(embed_model *model);

#endif

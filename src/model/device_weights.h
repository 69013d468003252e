/* device_weights: a model's weights in the memory of one device, uploaded once and shared by all
 * contexts there. One allocation: first what every device has, in the order of the forward pass,
 * then the matrices of the experts, of which a device has all or a share. Every tensor starts at a
 * multiple of EMB_DEVICE_ALIGN; query, key and value, and the experts of a layer, lie end to end.
 * Matrices in the type of the forward pass, biases, norms, the router, angles and the modules
 * behind the pooling in f32. In 16-bit types each bias of a dense product is there twice: behind
 * its floats, from the next multiple of EMB_DEVICE_ALIGN on, lie the same numbers in that type, as
 * products of a library take them (emb_device_bias). */
#ifndef EMB_MODEL_DEVICE_WEIGHTS_H
#define EMB_MODEL_DEVICE_WEIGHTS_H

#include "device/device.h"
#include "model/model.h"

/* Tensors of one layer; at 0: there is none. */
typedef struct emb_device_layer {
    emb_dptr qkv, qkv_bias; /* [3 hidden, hidden], [3 hidden] */
    emb_dptr out, out_bias; /* [hidden, hidden] */
    emb_dptr norm1_gamma, norm1_beta, norm2_gamma, norm2_beta;
    emb_dptr up, gate, down;                /* MoE: up [experts here, inner, hidden], down alike */
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
    size_t bytes, common_bytes; /* in all, and without the experts */
    int32_t dtype;              /* EMBED_F32, EMBED_F16 or EMBED_BF16 */
    int32_t rank, ranks;        /* holds the experts e with e mod ranks == rank; 0, 1: all */
    int32_t reserved;
} emb_device_weights;

/* The bias of n numbers in the type of the pass. */
static inline emb_dptr emb_device_bias(emb_dptr bias, int64_t n, int32_t dtype) {
    const uint64_t end = bias.at + (uint64_t)n * sizeof(float);
    if (bias.at == 0 || dtype == EMBED_F32)
        return bias;
    return (emb_dptr){(end + EMB_DEVICE_ALIGN - 1) / EMB_DEVICE_ALIGN * EMB_DEVICE_ALIGN};
}

/* Device memory they take, with all experts. */
embed_status emb_device_weights_bytes(const embed_model *model, int32_t dtype, size_t *bytes);
/* Allocates and lays out; nothing is there yet. On failure there is nothing to free. */
embed_status emb_device_weights_create(emb_device_weights *w, emb_device *device,
                                       const embed_model *model, int32_t dtype, int32_t rank,
                                       int32_t ranks);
/* Brings parts from the model's files, converted on the way, and waits. */
#define EMB_WEIGHTS_COMMON 1u
#define EMB_WEIGHTS_EXPERTS 2u
embed_status emb_device_weights_upload(emb_device_weights *w, emb_device *device,
                                       const embed_model *model, uint32_t parts);
void emb_device_weights_free(emb_device_weights *w, emb_device *device); /* zeroed: no-op */

/* A model's word embeddings alone, [rows, hidden] of dtype, in an allocation of their own. Waits.
 * On failure *words is 0. */
embed_status emb_device_words_upload(emb_dptr *words, emb_device *device, const embed_model *model,
                                     int32_t dtype);

#endif

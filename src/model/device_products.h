/* device_products: which of several ways runs a matrix product of the forward pass on a device.
 * Everything of device_layers.c that multiplies by a weight matrix comes here; experts' products
 * and those of the modules behind the pooling have one way only, our own kernel. */
#ifndef EMB_MODEL_DEVICE_PRODUCTS_H
#define EMB_MODEL_DEVICE_PRODUCTS_H

#include "kernels/gemm/gemm_cuda.h"
#include "model/device_weights.h"

/* The products that all tokens of a batch take part in. */
typedef enum emb_dense {
    EMB_DENSE_QKV,
    EMB_DENSE_OUT,
    EMB_DENSE_UP, /* of a dense layer; with its activation unless gated */
    EMB_DENSE_GATE,
    EMB_DENSE_DOWN,
    EMB_DENSES
} emb_dense;

/* y[m,n] = act(x[m,k] w[n,k]^T + bias[n]) (* mul[m,n]) */
typedef struct emb_dense_shape {
    int64_t n, k;
    int32_t act; /* emb_activation */
    int32_t mul; /* 1: the product is multiplied by what lies at mul */
} emb_dense_shape;

/* One of them in one layer; addresses on the device. */
typedef struct emb_dense_args {
    const void *x, *mul;
    void *y;
    emb_dptr w, bias;     /* of the dtype of the pass; f32, at 0: none */
    const int32_t *count; /* rows that are there; NULL: all m */
    int64_t m;
} emb_dense_args;

/* Those of one context; belongs to one thread at a time. */
typedef struct emb_device_products {
    emb_device *device;
    const emb_be_op *gemm;
    emb_dense_shape shapes[EMB_DENSES]; /* n 0: this model has no such product */
    int32_t dtype;
    int32_t tf32; /* 1: f32 products may be rounded to tf32; not those behind the pooling */
} emb_device_products;

/* Errors  _UNSUPPORTED: the device has no such operation; _DEVICE */
embed_status emb_device_products_create(emb_device_products *p, emb_device *device,
                                        const embed_model *model, int32_t dtype);
/* Enqueue one. */
embed_status emb_device_products_run(emb_device_products *p, emb_stream *s, emb_dense which,
                                     const emb_dense_args *args);
/* Enqueue any other product by our own kernel. Strides are those of whole rows; groups and dtype 0
 * mean one group and the dtype of the pass. */
embed_status emb_device_products_own(const emb_device_products *p, emb_stream *s,
                                     emb_cuda_gemm_args args);

#endif

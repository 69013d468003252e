/* device_products: which of several ways runs a matrix product of the forward pass on a device.
 * Everything of device_layers.c that multiplies by a weight matrix comes here. The products that
 * all tokens take part in may go through a library; those of experts, whose sizes only the device
 * knows, and those of the modules behind the pooling, which are small, have our own kernel only.
 *
 * own      kernels/gemm: bias, activation and factor in the epilogue, the real number of rows read
 *          on the device. Bits of a row depend on nothing but the row.
 * library  cuBLASLt with one algorithm for each (rows of the bucket, n, k), no sum split; it
 *          computes all rows of the bucket, of which those beyond the batch are rubbish that nobody
 *          reads. Its bias has the type of the product (a rounded copy); an activation, with the
 *          bias in f32, is a pass behind it (kernels/activation), since cuBLASLt's own GELU is
 *          another function. The factor of gated layers would take a second matrix as large as the
 *          inner one, so their gate products stay ours.
 *
 * Which one is decided once for a bucket and a model on a kind of device, by the policy:
 *   EMBED_PRODUCTS_OWN      ours
 *   EMBED_PRODUCTS_LIBRARY  the library wherever it can
 *   EMBED_PRODUCTS_AUTO     f32: ours, since bits that never change are why one takes f32; tf32,
 *                           f16 and bf16: both are timed on the device before the first batch of
 *                           the bucket, and the library is taken if it is at least a tenth faster
 * Where there is no library, or it refuses a shape, ours is taken and the record says why.
 *
 * error  of the library's product against exact arithmetic, as gemm_cuda: |dy| <= 1.13 (K 2^-24
 *        sum|x w| + 2e-6 |s|) + u |y|, u half an ulp of the type at 1; plus u |bias| for the
 *        rounded bias; with an activation plus 1.13 u |s| for the sum rounded before it. */
#ifndef EMB_MODEL_DEVICE_PRODUCTS_H
#define EMB_MODEL_DEVICE_PRODUCTS_H

#include "kernels/gemm/gemm_cuda.h"
#include "model/device_choices.h"
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
    emb_dptr w, bias;     /* of the dtype of the pass; f32 and more (emb_device_bias), at 0: none */
    const int32_t *count; /* rows that are there; NULL: all m */
    int64_t m;
    int32_t own; /* 1: never by the library: fewer rows than the batch has tokens */
    int32_t reserved;
} emb_dense_args;

/* Plans of the library for batches of one bucket; NULL: our own kernel. */
typedef struct emb_product_bucket {
    int64_t rows;
    emb_gemm_plan *plans[EMB_DENSES];
} emb_product_bucket;

/* Those of one context; belongs to one thread at a time. */
typedef struct emb_device_products {
    emb_device *device;
    const emb_be_op *gemm, *activation;
    emb_dense_shape shapes[EMB_DENSES]; /* n 0: this model has no such product */
    int32_t dtype, policy;              /* policy: embed_device_products */
    emb_device_choices *choices;        /* of the model; NULL: our own kernels */
    char reason[256];                   /* why there is no library though one was asked for */
    emb_dptr workspace;                 /* of the one stream that all run on */
    size_t workspace_bytes;
    emb_product_bucket *buckets;
    size_t n_buckets, capacity;
    int64_t most; /* rows that the buffers have room for */
    int32_t tf32; /* 1: f32 products may be rounded to tf32; not those behind the pooling */
} emb_device_products;

/* Errors  _UNSUPPORTED: the device has no such operation; _DEVICE */
embed_status emb_device_products_create(emb_device_products *p, emb_device *device,
                                        const embed_model *model, int32_t dtype);
/* Before the first batch, and after tf32 was set: what may be used (embed_device_products). Opens
 * the library. */
embed_status emb_device_products_allow(emb_device_products *p, embed_model *model, int32_t policy);
void emb_device_products_free(emb_device_products *p); /* zeroed: no-op */
/* Device memory that _allow takes, at most. */
size_t emb_device_products_bytes(int32_t dtype, int32_t tf32, int32_t policy);

/* Rows that the library computes for a batch of m: the batches of one number share everything that
 * was decided. That of emb_bucket_tokens and, beyond it, sixteenths of a power of two; at most
 * `most`. */
int64_t emb_device_products_rows(int64_t m, int64_t most);
/* 1: a batch of m rows can run. 0: _prepare must come first. most: rows there is room for. */
int emb_device_products_ready(emb_device_products *p, int64_t m, int64_t most);
/* Decide for batches of m rows, by trying on the stream if need be; the host waits. Not during a
 * capture. args: of one layer each, with room for `most` rows; what lies at y is lost. */
embed_status emb_device_products_prepare(emb_device_products *p, emb_stream *s,
                                         const emb_dense_args args[EMB_DENSES], int64_t m);

/* Decision i, see emb_device_choices_read; 0 if there are fewer. */
int emb_device_products_choice(const emb_device_products *p, size_t i, emb_choice *choice,
                               size_t *n);

/* Enqueue one. */
embed_status emb_device_products_run(emb_device_products *p, emb_stream *s, emb_dense which,
                                     const emb_dense_args *args);
/* Enqueue any other product by our own kernel. Strides are those of whole rows; groups and dtype 0
 * mean one group and the dtype of the pass. */
embed_status emb_device_products_own(const emb_device_products *p, emb_stream *s,
                                     emb_cuda_gemm_args args);

#endif

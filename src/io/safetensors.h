/* safetensors: one file of tensors, checked whole when opened (header 8-byte length, JSON, dtype,
 * shape, offsets that cover the data exactly once) and then only looked at: data stays in the map.
 * Accepts what the reference library (huggingface/safetensors, tensor.rs) accepts, except that a
 * tensor listed twice is refused. */
#ifndef EMB_IO_SAFETENSORS_H
#define EMB_IO_SAFETENSORS_H

#include "io/json.h"
#include "io/map.h"

#define EMB_TENSOR_DIMS 4 /* dimensions kept of a shape; no weight of ours has more */
#define EMB_SAFETENSORS_MAX_HEADER 100000000 /* bytes; as the reference library */

typedef struct emb_tensor {
    const char *name;               /* UTF-8, NUL-terminated */
    const unsigned char *data;      /* any alignment */
    size_t bytes, offset;           /* offset from the end of the header */
    int64_t shape[EMB_TENSOR_DIMS]; /* the first dimensions, 1 where there are fewer */
    int32_t rank;                   /* may be more than EMB_TENSOR_DIMS */
    int32_t dtype;          /* embed_dtype F32, F16 or BF16; 0: one we do not compute with */
    int32_t used;           /* for the reader's own marks; 0 once open */
    const char *dtype_name; /* as the file has it */
} emb_tensor;

typedef struct emb_safetensors {
    emb_map map;
    emb_json_doc *header; /* owns the names */
    emb_tensor *tensors;  /* sorted by name, bytewise */
    size_t n;
} emb_safetensors;

/* Errors: _IO; _FORMAT (message names file, tensor, expected, found); _TRUNCATED if the file is
 * shorter than its header says; _NOMEM. On failure *file is empty and needs no close. */
embed_status emb_safetensors_open(emb_safetensors *file, const emb_env *env, const char *path);
void emb_safetensors_close(emb_safetensors *file, const emb_env *env); /* empty: a no-op */

/* The tensor of that name, NULL if there is none. */
const emb_tensor *emb_safetensors_find(const emb_safetensors *file, const char *name);

/* "[24576,768]"; returns buf. */
#define EMB_SHAPE_SHOWN 96
const char *emb_tensor_show_shape(const emb_tensor *tensor, char buf[EMB_SHAPE_SHOWN]);

#endif

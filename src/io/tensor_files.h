/* tensor_files: the tensors of one folder, in model.safetensors or in the shards that
 * model.safetensors.index.json names (transformers' layout). */
#ifndef EMB_IO_TENSOR_FILES_H
#define EMB_IO_TENSOR_FILES_H

#include "io/safetensors.h"

typedef struct emb_tensor_files {
    emb_safetensors *files;
    size_t n;
    size_t capacity; /* of files */
} emb_tensor_files;

/* Map and check all files. With an index: it must name each tensor of each shard once and rightly.
 * Errors: as emb_safetensors_open; _UNSUPPORTED if there are only PyTorch pickles; _FORMAT and
 * _MISMATCH for an index that is wrong. On failure *set is empty and needs no close. */
embed_status emb_tensor_files_open(emb_tensor_files *set, const emb_env *env, const char *dir);
void emb_tensor_files_close(emb_tensor_files *set, const emb_env *env); /* empty: a no-op */

/* The tensor of that name and the file it is in, NULL if there is none. */
const emb_tensor *emb_tensor_files_find(const emb_tensor_files *set, const char *name,
                                        const emb_safetensors **file);

#endif

/* checkpoint: small random checkpoints for tests of weights, whole or with one tensor changed. */
#ifndef EMB_TESTS_SUPPORT_CHECKPOINT_H
#define EMB_TESTS_SUPPORT_CHECKPOINT_H

#include "model/config.h"
#include "support/tensors.h"

/* A change to one tensor; zeroed: none. */
typedef struct test_change {
    const char *name;  /* without prefix */
    const char *shape; /* NULL: the tensor is left out */
    const char *dtype; /* "F32" ... */
    int32_t add;       /* 1: the tensor is one too many */
} test_change;

/* Configurations of 2 layers (nomic MoE: 4) for emb_weights_open, without reading any file. */
emb_config test_config_nomic(int32_t gated, int32_t biases);
emb_config test_config_moe(void);
emb_config test_config_bert(void);

/* Append all tensors that such an encoder has, names under `prefix`. */
void test_checkpoint_add(test_tensors *t, const emb_config *config, const char *prefix,
                         int32_t dtype, const test_change *change, uint64_t *seed);

#endif

/* fingerprint: one number for everything that changes vectors: weights, configuration, tokenizer,
 * prompts. XXH3 with 128 bits; not a defence against forgery. */
#ifndef EMB_MODEL_FINGERPRINT_H
#define EMB_MODEL_FINGERPRINT_H

#include "model/model.h"

/* Hash of a file's bytes, high half first. */
embed_status emb_fingerprint_file(uint64_t hash[2], const emb_env *env, const char *path);

/* The model's fingerprint in hexadecimal, computed by the first call; calls wait for it. */
void emb_fingerprint_get(embed_model *model, char out[EMB_FINGERPRINT_CHARS]);
/* The word embedding matrix alone: element type, shape, bytes. Cached in the same way. */
void emb_fingerprint_embedding(embed_model *model, char out[EMB_FINGERPRINT_CHARS]);
/* Two words as 32 hexadecimal digits, high half first. */
void emb_fingerprint_write(const uint64_t hash[2], char out[EMB_FINGERPRINT_CHARS]);

#endif

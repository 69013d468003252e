/* config_parts: the two halves of emb_config_read. */
#ifndef EMB_MODEL_CONFIG_PARTS_H
#define EMB_MODEL_CONFIG_PARTS_H

#include "io/json.h"
#include "model/config.h"

/* Parse dir/name, or dir/sub/name if sub is not NULL. A file that is not there is an error, or, if
 * `optional`, *out = NULL. */
embed_status emb_config_open_json(emb_json_doc **out, const emb_env *env, const char *dir,
                                  const char *sub, const char *name, int optional);

/* config.json: the encoder. */
embed_status emb_config_read_encoder(emb_encoder_config *c, const emb_env *env, const char *dir);

/* modules.json and all it names, sentence_bert_config.json, tokenizer_config.json,
 * config_sentence_transformers.json. *p is zeroed; on failure it may be half filled. */
embed_status emb_config_read_pipeline(emb_pipeline_config *p, const emb_env *env, const char *dir,
                                      const emb_encoder_config *encoder);

#endif

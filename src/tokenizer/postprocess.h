/* postprocess: the special tokens that the post_processor of a tokenizer.json puts around a text.
 */
#ifndef EMB_TOKENIZER_POSTPROCESS_H
#define EMB_TOKENIZER_POSTPROCESS_H

#include "io/json.h"
#include "tokenizer/id_list.h"

typedef struct emb_postprocessor {
    emb_id_list before, after;
    int32_t greatest; /* id among them, -1 */
    int32_t reserved;
} emb_postprocessor;

/* value: the file's "post_processor", NULL or null for none. Fill *out, to be freed even on
 * failure.
 */
embed_status emb_postprocessor_load(emb_postprocessor *out, const emb_env *env,
                                    const emb_json_doc *doc, const emb_json *value);
void emb_postprocessor_free(emb_postprocessor *post, const emb_env *env);

#endif

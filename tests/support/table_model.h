/* table_model: n-gram tables for a model that is open, and what such a table does to a text. */
#ifndef EMB_TESTS_SUPPORT_TABLE_MODEL_H
#define EMB_TESTS_SUPPORT_TABLE_MODEL_H

#include "support/handles.h"
#include "support/table_fixture.h"

/* Every n-gram of 2 .. k ordinary tokens in the texts whose pseudo-random draw is below `share`;
 * vectors: the word embedding of the last token if `copies`, else normal numbers. */
void test_grams_of_texts(test_grams *g, const embed_model *model, const embed_text *texts, size_t n,
                         int32_t k, double share, int copies, uint64_t *rng);

/* The word embedding of an id as floats [hidden]. */
void test_word(const embed_model *model, int32_t id, float *out);

/* Write a table for the model at `path` (spec->binding is set here) and open it. */
embed_table *test_table_make(embed_model *model, const char *path, const test_table_spec *spec,
                             const test_grams *g);
embed_table *test_table_open(embed_model *model, const char *path,
                             const embed_table_params *params); /* NULL: defaults */

/* A context with the table; NULL: without. */
embed_context *test_context_with(embed_model *model, embed_table *table, int threads,
                                 int batch_tokens);

/* Row of the longest n-gram that ends at ids[at], by plain search, or -1; *length its length, 0
 * for none. Special tokens of the model take no part. */
int64_t test_longest_match(const embed_model *model, const test_grams *g, const int32_t *ids,
                           size_t at, int32_t k, int32_t *length);

#endif

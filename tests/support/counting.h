/* counting: counting jobs of tests: a stream of positions in, a file of counts out. */
#ifndef EMB_TESTS_SUPPORT_COUNTING_H
#define EMB_TESTS_SUPPORT_COUNTING_H

#include "ngram/ngram_counter.h"
#include "support/files.h"
#include "support/naive_ngrams.h"

#define COUNTING_VOCAB 5000

/* Params of a job into `output` (borrowed) with 1 thread and 64 MiB that saves its state only at
 * the end of the input. documents 0: they are not counted. */
emb_ngram_counter_params counting_params(const char *output, int32_t k, uint64_t min_count,
                                         uint64_t documents);

/* Run a job over a stream, 300 texts at a time, from where it stopped if it resumes. */
embed_status counting_run(const emb_env *env, const emb_ngram_counter_params *params,
                          const uint32_t *positions, size_t n, emb_ngram_counter_result *result);

/* Fails the test unless the file holds exactly those n-grams. */
void counting_check(const char *path, const naive_ngrams *want, int with_documents);

/* A whole file for free(); NULL if there is none. */
char *counting_read(const char *path, size_t *size);
int counting_same(const char *path, const char *bytes, size_t size);
int counting_exists(const char *path);

#endif

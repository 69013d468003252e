/* handles: models and contexts of the public interface, opened or the test fails. */
#ifndef EMB_TESTS_SUPPORT_HANDLES_H
#define EMB_TESTS_SUPPORT_HANDLES_H

#include "support/tiny_model.h"

/* Fails the test with embed_last_error() unless st is EMBED_OK. */
#define TEST_OK(st) test_ok((st), __FILE__, __LINE__)
void test_ok(embed_status st, const char *file, int line);
/* Fails unless `st` is `want` and the message holds `text`. */
void test_fails(embed_status st, embed_status want, const char *text);

embed_model *test_open(const char *dir);
/* batch_tokens 0: the default. */
embed_context *test_context(embed_model *model, int threads, int batch_tokens);
embed_text test_text(const char *s);

/* n texts of 1 .. max_words random words of the tiny model, for test_texts_free. */
embed_text *test_texts(const tiny_model *m, uint64_t seed, size_t n, size_t max_words);
void test_texts_free(embed_text *texts, size_t n);

/* Ids of a text as the model tokenises it, at most cap; returns how many. */
size_t test_ids(const embed_model *model, embed_text text, int32_t *ids, size_t cap);

#endif

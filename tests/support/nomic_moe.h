/* nomic_moe: a checkpoint of the true shape of nomic-embed-text-v2-moe (475 M parameters, 12 layers
 * of 768, 8 experts top 2 in every second layer) with random weights, the same on every machine. */
#ifndef EMB_TESTS_SUPPORT_NOMIC_MOE_H
#define EMB_TESTS_SUPPORT_NOMIC_MOE_H

/* Write the directory `dir` (created; 1.9 GB) with a link to `tokenizer`, a tokenizer.json. Does
 * nothing if it is there already. Returns 0, or -1 with a message on stderr. */
int test_write_nomic_moe(const char *dir, const char *tokenizer);

#endif

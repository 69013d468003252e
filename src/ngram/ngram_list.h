/* ngram_list: f-gram lists, JSON lines {"ids":[12,7,911],"count":42} in row order. Keys may stand
 * in any order, others are ignored, "count" may be missing (0: not known), blank lines are skipped.
 */
#ifndef EMB_NGRAM_NGRAM_LIST_H
#define EMB_NGRAM_NGRAM_LIST_H

#include "base/alloc.h"
#include "ngram/ngram_format.h"

typedef struct emb_ngram_list emb_ngram_list; /* one call at a time */

/* Reads the file once and checks every line. Errors: _IO; _FORMAT naming file and line: not JSON,
 * not 2 to 8 ids, an id or a count that is no whole number of the right size; _NOMEM. */
embed_status emb_ngram_list_open(emb_ngram_list **out, const emb_env *env, const char *path);
void emb_ngram_list_free(emb_ngram_list *list); /* NULL is a no-op */

uint64_t emb_ngram_list_rows(const emb_ngram_list *list);
/* n-grams of each length, [EMB_NGRAM_MAX_K + 1]. */
const uint64_t *emb_ngram_list_lengths(const emb_ngram_list *list);
/* Of what the lines say, not of how they are written. */
void emb_ngram_list_digest(const emb_ngram_list *list, uint8_t digest[16]);
uint64_t emb_ngram_list_bytes(const emb_ngram_list *list); /* of memory */

/* N-grams first .. first + n - 1, which must exist; fast where `first` goes on after the last call.
 * Errors: as above (the file changed meanwhile). */
embed_status emb_ngram_list_read(emb_ngram_list *list, uint64_t first, size_t n,
                                 emb_ngram_fgram *out);
/* Line number of a row, the first line is 1. */
embed_status emb_ngram_list_line(emb_ngram_list *list, uint64_t row, uint64_t *line);

#endif

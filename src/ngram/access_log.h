/* access_log: how often rows were used, to put the used ones together. A line is {"row":n,"hits":n}
 * (other keys are ignored, hits is 1 if absent), or a row number alone, or row and hits with a
 * blank or tab between; a row may come again and again. */
#ifndef EMB_NGRAM_ACCESS_LOG_H
#define EMB_NGRAM_ACCESS_LOG_H

#include "base/alloc.h"

/* Add the log's hits to hits [rows] (saturating), and its bytes to digest. Errors: _IO; _FORMAT
 * naming the line. */
embed_status emb_access_log_read(const emb_env *env, const char *path, uint32_t *hits,
                                 uint64_t rows, uint8_t digest[16]);

#endif

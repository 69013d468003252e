/* ngram_probe: the way cold rows are brought in, as asked for or as measured. */
#ifndef EMB_NGRAM_NGRAM_PROBE_H
#define EMB_NGRAM_NGRAM_PROBE_H

#include "ngram/ngram_table.h"

/* Sets table->io, and opens what it needs. Left to us (EMBED_TABLE_IO_AUTO), a few dozen random
 * blocks are read each way. Errors: _UNSUPPORTED: io_uring was asked for and is refused; _ARG: mode
 * read never maps, so EMBED_TABLE_IO_WILLNEED makes no sense there. */
embed_status emb_ngram_io_choose(embed_table *table);

#endif

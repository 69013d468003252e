/* ngram_npy_sink: a .npy file of f32 rows that is written in order over hours. Rows go to
 * <path>.partial, header first; every few seconds what is there is made durable and noted in
 * <path>.partial.state, so that a killed run can be continued. At the end it is renamed. */
#ifndef EMB_NGRAM_NGRAM_NPY_SINK_H
#define EMB_NGRAM_NGRAM_NPY_SINK_H

#include "base/alloc.h"

typedef struct emb_npy_sink emb_npy_sink;

/* identity: of everything that the rows depend on. *done: rows that are there already, 0 unless
 * resumed; all of them: nothing is left but to finish. Errors: _IO; a left-over <path>.partial
 * without resume, or one that another process writes, among them; _MISMATCH: to be resumed, but
 * begun from something else. */
embed_status emb_npy_sink_open(emb_npy_sink **out, const emb_env *env, const char *path,
                               uint64_t rows, uint32_t width, const uint8_t identity[16],
                               int32_t resume, uint64_t *done);
/* The next n rows, [n, width]. */
embed_status emb_npy_sink_write(emb_npy_sink *sink, const float *rows, size_t n);
/* All rows are there: sync and rename. */
embed_status emb_npy_sink_finish(emb_npy_sink *sink);
/* Without _finish: what is there stays for resuming, or goes away if `discard`. NULL: a no-op. */
void emb_npy_sink_close(emb_npy_sink *sink, int discard);

#endif

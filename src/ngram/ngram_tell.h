/* ngram_tell: how a job reports: at each change of phase and some times a second. */
#ifndef EMB_NGRAM_NGRAM_TELL_H
#define EMB_NGRAM_NGRAM_TELL_H

#include "base/status.h"

typedef struct emb_ngram_teller {
    const embed_job *job;
    uint64_t memory_bytes, disk_bytes; /* told with each report */
    const char *phase;                 /* the last one told of */
    uint64_t told_ns;
} emb_ngram_teller;

/* Passes the report on to the job's caller if it is time; EMBED_ERR_CANCELLED if he says so. The
 * phase must be a literal. Only from the thread that runs the job. */
embed_status emb_ngram_tell(emb_ngram_teller *t, const char *phase, const char *unit, uint64_t done,
                            uint64_t total);

#endif

#include "ngram/ngram_tell.h"

#include <string.h>

#include "base/clock.h"

#define EVERY_NS UINT64_C(100000000)

embed_status emb_ngram_tell(emb_ngram_teller *t, const char *phase, const char *unit, uint64_t done,
                            uint64_t total) {
    if (t->job->report == NULL)
        return EMBED_OK;
    const uint64_t ns = emb_clock_ns();
    const int same = t->phase != NULL && strcmp(t->phase, phase) == 0;
    if (same && ns - t->told_ns < EVERY_NS && done != total)
        return EMBED_OK;
    t->phase = phase;
    t->told_ns = ns;
    const embed_job_report r = {phase, unit, done, total, t->memory_bytes, t->disk_bytes};
    if (t->job->report(t->job->user, &r) != 0)
        return emb_fail(EMBED_ERR_CANCELLED, "%s: cancelled by the caller", phase);
    return EMBED_OK;
}

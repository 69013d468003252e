/* fgram_job: a list of n-grams to a .npy file of rows, window by window, so that memory stays
 * bounded and a killed run can be continued. */
#ifndef EMB_MODEL_FGRAM_JOB_H
#define EMB_MODEL_FGRAM_JOB_H

#include "model/fgram_rows.h"
#include "ngram/ngram_rows_file.h"

typedef struct emb_fgram_job {
    embed_model *model, *fgram; /* fgram: for EMB_FGRAM_MODEL, else NULL */
    const char *list, *output;
    const char *from; /* rows computed elsewhere, then `source` does not count; or NULL */
    emb_ngram_rows_params from_params;
    int32_t source; /* emb_fgram_source */
    int32_t threads, batch_tokens;
    int32_t resume;
    emb_place place; /* of the f-gram model */
    uint64_t memory;
    embed_job_fn report; /* or NULL */
    void *user;
} emb_fgram_job;

/* output: f32 [n-grams, hidden]. The bytes depend on list, models and source alone. A value that is
 * NaN or infinite is EMBED_ERR_FORMAT naming its place. */
embed_status emb_fgram_job_run(const emb_env *env, const emb_fgram_job *job);

#endif

/* ngram_residency: how much of a table's rows is in memory, and bringing the hottest ones there. */
#ifndef EMB_NGRAM_NGRAM_RESIDENCY_H
#define EMB_NGRAM_NGRAM_RESIDENCY_H

#include "ngram/ngram_service.h"

/* Share of the mapped rows' pages that are in memory (mincore; of a large table an even sample), -1
 * if the rows are not mapped or there are none. Linux tells only the owner of the files, or who may
 * write to them; to others all pages look resident. */
double emb_ngram_resident_share(const embed_table *table);

/* Bring the first `bytes` of the rows (0: all) into memory: the page cache, or in modes that read,
 * the row cache as far as it reaches. report: as in embed_job, NULL: none. */
embed_status emb_ngram_warm(embed_table *table, uint64_t bytes, embed_job_fn report, void *user);

#endif

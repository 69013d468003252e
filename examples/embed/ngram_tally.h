/* ngram_tally: what the lookups of a run add up to: coverage, hits by length and hits by row. */
#ifndef EMBED_PROGRAM_NGRAM_TALLY_H
#define EMBED_PROGRAM_NGRAM_TALLY_H

#include "tool.h"

typedef struct ngram_tally {
    uint64_t texts, tokens, matched, distinct;
    uint64_t by_length[9]; /* [0]: no match */
    uint64_t rows;         /* of the table */
    uint32_t *hits;        /* [rows], saturating */
} ngram_tally;

/* An exit code after a message. */
int ngram_tally_start(ngram_tally *t, const char *who, uint64_t rows);
void ngram_tally_end(ngram_tally *t);
/* One text of n tokens as embed_table_lookup answered. */
void ngram_tally_add(ngram_tally *t, const int64_t *rows, const int32_t *lengths, size_t n);

double ngram_tally_mean_length(const ngram_tally *t); /* of the matches; 0 without any */
/* Share of the hits that fall on the first `share` of the table's rows, and on as many rows that
 * were hit most often. Returns an exit code after a message. */
int ngram_tally_hot(const ngram_tally *t, const char *who, double share, double *first,
                    double *hottest);
/* {"row":n,"hits":n} a line, most hits first; an exit code after a message. */
int ngram_tally_write_log(const ngram_tally *t, const char *who, const char *path);

#endif

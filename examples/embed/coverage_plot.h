/* coverage_plot: the answer of `embed ngram advise` as an SVG picture: share of positions matched
 * against bytes on disk, one line for each K. */
#ifndef EMBED_PROGRAM_COVERAGE_PLOT_H
#define EMBED_PROGRAM_COVERAGE_PLOT_H

#include "embed.h"

/* cells: as embed_ngram_advisor_run gives them, those of one K one after the other. An exit code
 * after a message. */
int coverage_plot_write(const char *who, const char *path, const embed_advise_cell *cells, size_t n,
                        const embed_advise_sample *sample);

#endif

/* ngram: the commands of `embed ngram`, each in the file ngram_<name>.c (advise: ngram_advisor.c).
 * argv[0] is "embed ngram <name>"; the result is an exit code. */
#ifndef EMBED_PROGRAM_NGRAM_H
#define EMBED_PROGRAM_NGRAM_H

#include "tool.h"

int ngram_count(int argc, char **argv);
int ngram_merge(int argc, char **argv);
int ngram_select(int argc, char **argv);
int ngram_rows(int argc, char **argv);
int ngram_build(int argc, char **argv);
int ngram_verify(int argc, char **argv);
int ngram_compact(int argc, char **argv);
int ngram_publish(int argc, char **argv);
int ngram_rollback(int argc, char **argv);
int ngram_versions(int argc, char **argv);
int ngram_advise(int argc, char **argv);
int ngram_info(int argc, char **argv);
int ngram_dump(int argc, char **argv);
int ngram_query(int argc, char **argv);
int ngram_warm(int argc, char **argv);
int ngram_bench(int argc, char **argv);

#endif

/* ngram: the commands of `embed ngram`, each in the file ngram_<name>.c. argv[0] is
 * "embed ngram <name>"; the result is an exit code. */
#ifndef EMBED_PROGRAM_NGRAM_H
#define EMBED_PROGRAM_NGRAM_H

#include "tool.h"

#endif

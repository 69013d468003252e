/* ngram_checking: what the steps of ngram_check share. */
#ifndef EMB_NGRAM_NGRAM_CHECKING_H
#define EMB_NGRAM_NGRAM_CHECKING_H

#include "base/threads.h"
#include "ngram/ngram_check.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_table.h"
#include "ngram/ngram_tell.h"

typedef struct emb_ngram_checking {
    emb_env env;
    const embed_verify_params *params;
    embed_verify_result *result;
    char *dir;
    emb_ngram_manifest manifest;
    embed_table *table; /* NULL: it does not open */
    emb_pool *pool;
    emb_ngram_teller teller;
    uint64_t total_bytes; /* of all files */
    uint8_t *seen;        /* of each bucket: entries that lead to a row that was checked, */
    uint8_t *parts;       /* and those that end a longer n-gram */
    uint64_t bad_rows;    /* their entries cannot be accounted for */
    embed_status first;
    char first_problem[600];
} emb_ngram_checking;

/* Note something wrong with `file`; the message of emb_fail is the problem. */
void emb_ngram_checking_note(emb_ngram_checking *c, const char *file, embed_status status);

/* ngram_check_rows.c: the digest of part `number` and, if the table is open, every row in it.
 * Problems are noted; a failure ends the check. */
embed_status emb_ngram_check_part(emb_ngram_checking *c, uint32_t number,
                                  const emb_ngram_file *file);
/* Digest of the other files. */
embed_status emb_ngram_check_digest(emb_ngram_checking *c, const emb_ngram_file *file);
/* Every entry of the index is accounted for by the rows that were seen. */
void emb_ngram_check_entries(emb_ngram_checking *c);

#endif

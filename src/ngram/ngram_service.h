/* ngram_service: what the public calls of a table share: fetchers that wait for their next user,
 * and a helper thread, made at first use, that fetches rows ahead. */
#ifndef EMB_NGRAM_NGRAM_SERVICE_H
#define EMB_NGRAM_NGRAM_SERVICE_H

#include "ngram/ngram_fetch.h"

#define EMB_NGRAM_FETCH_ROWS 4096 /* rows that one step of a long list brings */

typedef struct emb_ngram_service emb_ngram_service;
embed_status emb_ngram_service_create(emb_ngram_service **out, embed_table *table);
void emb_ngram_service_free(emb_ngram_service *service); /* ends the helper; NULL is a no-op */

/* A fetcher of one's own until it is handed back. */
embed_status emb_ngram_service_borrow(emb_ngram_service *service, emb_ngram_fetcher **out);
void emb_ngram_service_return(emb_ngram_service *service, emb_ngram_fetcher *fetcher);

/* Queue rows for the helper; the ticket keeps the table alive until it is waited for. */
embed_status emb_ngram_service_prefetch(emb_ngram_service *service, const int64_t *rows, size_t n,
                                        embed_table_ticket **out);
embed_status emb_ngram_service_wait(embed_table_ticket *ticket); /* frees it */

#endif

/* row_place: which of the ways of model/device_rows rows take to a device, by sizes and by what the
 * device can do. Knows numbers only. */
#ifndef EMB_MODEL_ROW_PLACE_H
#define EMB_MODEL_ROW_PLACE_H

#include "base/status.h"

typedef struct emb_row_place_facts {
    uint64_t table_bytes; /* of all rows in device memory */
    uint64_t row_bytes;   /* of one */
    uint64_t free_bytes;  /* of the device */
    const char *unmapped; /* why there is no mapping of plain rows; NULL: there is */
    int32_t registers;    /* 1: the device can register read-only mappings */
    int32_t native;       /* 1: it reads any host memory */
    double map_seconds;  /* the same rows read by a kernel from the mapping, and copied; measured */
    double copy_seconds; /* where the device is native, else 0 */
} emb_row_place_facts;

typedef struct emb_row_place {
    int32_t place;        /* embed_table_place, never AUTO */
    int32_t native;       /* of MAP: nothing is registered */
    uint64_t cache_bytes; /* of CACHE */
} emb_row_place;

/* wish: embed_table_place. limit: device memory for rows, 0 for a choice. AUTO is
 *   RESIDENT  if all rows take at most `limit`, or half of what is free;
 *   CACHE     if there is a limit above;
 *   MAP       if the device reads the mapping without registering it, and in at most 1.25 times the
 *             time of a copy: registering pins all of the file in memory, which only a caller asks
 *             for;
 *   CACHE     of a quarter of what is free, if that is a hundredth of the rows (a hundredth brings
 *             more than half of the hits, see ngram/README.md);
 *   COPY      else.
 * Errors  _ARG, _UNSUPPORTED, _NOMEM: a wish that cannot be, with what stands against it */
embed_status emb_row_place_choose(emb_row_place *out, const emb_row_place_facts *facts,
                                  int32_t wish, uint64_t limit);

#endif

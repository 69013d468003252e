/* raw_uring: random reads as fast as the disk answers, for comparison: io_uring and nothing else.
 */
#ifndef EMBED_PROGRAM_RAW_URING_H
#define EMBED_PROGRAM_RAW_URING_H

#include <stddef.h>
#include <stdint.h>

#define RAW_ALIGN 4096 /* offsets and lengths, for O_DIRECT */

typedef struct raw_read {
    int fd;
    uint32_t skip;   /* bytes before what is wanted */
    uint64_t offset; /* multiples of RAW_ALIGN */
    uint32_t bytes, wanted;
} raw_read;

/* n reads, at most `depth` in flight; adds up what was wanted of each. 1: done; 0: built without
 * liburing, or the system forbids it; -1: a read failed. */
int raw_uring_run(const raw_read *reads, size_t n, unsigned depth, uint64_t *sum);

#endif

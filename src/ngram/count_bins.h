/* count_bins: a histogram of 64-bit counts: exact for small ones, in steps of 1/512 above. */
#ifndef EMB_NGRAM_COUNT_BINS_H
#define EMB_NGRAM_COUNT_BINS_H

#include <stddef.h>
#include <stdint.h>

#define EMB_COUNT_EXACT 1024 /* counts below have a bin of their own */
#define EMB_COUNT_STEPS 512  /* bins of each doubling above */
#define EMB_COUNT_BINS (EMB_COUNT_EXACT + 54 * EMB_COUNT_STEPS)

static inline size_t emb_count_bin(uint64_t count) {
    if (count < EMB_COUNT_EXACT)
        return (size_t)count;
    const int high = 63 - __builtin_clzll(count); /* 10 .. 63 */
    return EMB_COUNT_EXACT + (size_t)(high - 10) * EMB_COUNT_STEPS +
           (size_t)(count >> (high - 9)) % EMB_COUNT_STEPS;
}

/* Least and greatest count of a bin. */
static inline uint64_t emb_count_bin_least(size_t bin) {
    if (bin < EMB_COUNT_EXACT)
        return bin;
    const size_t i = bin - EMB_COUNT_EXACT;
    return (EMB_COUNT_STEPS + (uint64_t)(i % EMB_COUNT_STEPS)) << (i / EMB_COUNT_STEPS + 1);
}
static inline uint64_t emb_count_bin_greatest(size_t bin) {
    return bin + 1 < EMB_COUNT_BINS ? emb_count_bin_least(bin + 1) - 1 : UINT64_MAX;
}

#endif

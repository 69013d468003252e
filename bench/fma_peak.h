/* fma_peak: the arithmetic limit that benchmarks divide by. */
#ifndef EMB_BENCH_FMA_PEAK_H
#define EMB_BENCH_FMA_PEAK_H

#include <stdint.h>

/* Runs independent chains of fused multiply-adds in registers of `isa` (embed_isa) for a few
 * milliseconds; returns how many flops that was, 0 where the set has no such loop. */
double fma_peak_run(int32_t isa);

#endif

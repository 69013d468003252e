/* peak: what this machine can do at most, measured in the same run, to judge a speed by. */
#ifndef EMBED_PROGRAM_PEAK_H
#define EMBED_PROGRAM_PEAK_H

/* GFLOP/s of all threads together, each on its own copy of the work; best of `reps`. 0 if it could
 * not be measured (no OpenBLAS when this program was built, no memory, no thread). */
double peak_sgemm(int threads, int reps);
/* The same for fused multiply-adds on registers alone: no matrix product can be faster. 0 where
 * the processor has neither AVX2 nor AVX-512. */
double peak_fma(int threads, int reps);

#endif

/* clock: monotonic time since some moment, for rates, checkpoints and statistics. */
#ifndef EMB_BASE_CLOCK_H
#define EMB_BASE_CLOCK_H

#include <stdint.h>

uint64_t emb_clock_ns(void);

static inline double emb_clock_seconds(void) {
    return 1e-9 * (double)emb_clock_ns();
}

#endif

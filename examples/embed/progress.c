#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "interrupt.h"

#define BAR_WIDTH 24

double progress_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_start(progress *p, uint64_t total_bytes, int forced) {
    *p = (progress){.terminal = isatty(STDERR_FILENO), .total_bytes = total_bytes};
    p->shown = p->terminal || forced;
    p->start = p->drawn = progress_now();
}

static void draw(progress *p, uint64_t texts, uint64_t tokens, double fraction) {
    const double now = progress_now(), spent = now - p->start;
    if (!p->shown || now - p->drawn < (p->terminal ? 0.1 : 1.0))
        return;
    p->drawn = now;
    if (p->terminal)
        fputs("\r\033[K", stderr);
    if (p->total_bytes) {
        const int full = (int)(fraction * BAR_WIDTH);
        char bar[BAR_WIDTH + 1];
        memset(bar, '#', (size_t)full);
        memset(bar + full, '.', (size_t)(BAR_WIDTH - full));
        bar[BAR_WIDTH] = '\0';
        fprintf(stderr, "[%s] %3.0f %%  ", bar, 100 * fraction);
    }
    fprintf(stderr, "%llu texts  %.0f tokens/s", (unsigned long long)texts, (double)tokens / spent);
    if (p->total_bytes && fraction > 0) {
        const long left = (long)(spent / fraction * (1 - fraction) + 0.5);
        fprintf(stderr, "  ETA %ld:%02ld", left / 60, left % 60);
    }
    if (!p->terminal)
        fputc('\n', stderr);
    fflush(stderr);
}

void progress_piece_begin(progress *p, uint64_t bytes) {
    p->piece_bytes = bytes;
}

int32_t progress_callback(void *user, uint64_t texts_done, uint64_t texts_total,
                          uint64_t tokens_done) {
    progress *p = user;
    const double part = texts_total ? (double)texts_done / (double)texts_total : 1;
    double fraction = 0;
    if (p->total_bytes)
        fraction = ((double)p->done_bytes + part * (double)p->piece_bytes) / (double)p->total_bytes;
    draw(p, p->texts + texts_done, p->tokens + tokens_done, fraction < 1 ? fraction : 1);
    return interrupt_seen();
}

void progress_piece_end(progress *p, uint64_t texts, uint64_t tokens) {
    p->texts += texts;
    p->tokens += tokens;
    p->done_bytes += p->piece_bytes;
}

void progress_end(progress *p, int succeeded) {
    if (!p->shown)
        return;
    if (p->terminal)
        fputs("\r\033[K", stderr);
    const double spent = progress_now() - p->start;
    if (succeeded)
        fprintf(stderr, "%llu texts, %llu tokens in %.1f s: %.0f tokens/s\n",
                (unsigned long long)p->texts, (unsigned long long)p->tokens, spent,
                spent > 0 ? (double)p->tokens / spent : 0);
}

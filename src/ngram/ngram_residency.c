#define _DEFAULT_SOURCE
#include "ngram/ngram_residency.h"

#include <sys/mman.h>
#include <unistd.h>

#include "ngram/ngram_cache.h"

#define CHUNK_PAGES ((size_t)1024)
#define CHUNKS ((uint64_t)8192) /* looked at, at most: 32 GiB exactly, above that every n-th */
#define STEP_BYTES ((uint64_t)8 << 20)

double emb_ngram_resident_share(const embed_table *t) {
    unsigned char pages[CHUNK_PAGES];
    uint64_t seen = 0, resident = 0, total = 0;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), chunk = CHUNK_PAGES * page;
    for (int32_t i = 0; i < t->n_parts; i++)
        total += t->parts[i].map != NULL ? t->parts[i].map_bytes : 0;
    const uint64_t stride = total / chunk / CHUNKS + 1;
    for (int32_t i = 0; i < t->n_parts; i++) {
        const emb_ngram_part *part = &t->parts[i];
        for (uint64_t at = 0; part->map != NULL && at < part->map_bytes; at += stride * chunk) {
            const uint64_t left = part->map_bytes - at;
            const size_t bytes = left < chunk ? (size_t)left : chunk, n = (bytes + page - 1) / page;
            if (mincore((void *)(uintptr_t)(part->map + at), bytes, pages) != 0)
                continue;
            for (size_t p = 0; p < n; p++)
                resident += pages[p] & 1u;
            seen += n;
        }
    }
    return seen == 0 ? -1 : (double)resident / (double)seen;
}

typedef struct warming {
    embed_table *table;
    embed_job_fn report;
    void *user;
    embed_job_report now;
} warming;

static embed_status tell(warming *w, uint64_t more) {
    w->now.done += more;
    if (w->report != NULL && w->report(w->user, &w->now) != 0)
        return emb_fail(EMBED_ERR_CANCELLED, "%s: warming was cancelled", w->table->path);
    return EMBED_OK;
}

/* Ask for the next step while the pages of this one are touched. */
static embed_status warm_map(warming *w, const emb_ngram_part *part, uint64_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    volatile unsigned char touched;
    embed_status st = EMBED_OK;
    for (uint64_t at = 0; at < bytes && st == EMBED_OK; at += STEP_BYTES) {
        const uint64_t left = bytes - at, step = left < STEP_BYTES ? left : STEP_BYTES;
        const uint64_t ahead = left < 2 * STEP_BYTES ? left : 2 * STEP_BYTES;
        (void)madvise((void *)(uintptr_t)(part->map + at), ahead, MADV_WILLNEED);
        for (uint64_t p = 0; p < step; p += page)
            touched = part->map[at + p];
        st = tell(w, step);
    }
    (void)touched;
    return st;
}

static embed_status warm_cache(warming *w, uint64_t n) {
    embed_table *t = w->table;
    uint32_t rows[256];
    emb_ngram_fetcher *f = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_service_borrow(t->service, &f));
    for (uint64_t at = 0; at < n && st == EMBED_OK;) {
        uint32_t here = 0;
        while (here < 256 && at < n)
            rows[here++] = (uint32_t)at++;
        st = emb_ngram_fetch_rows(f, rows, here, NULL, NULL, NULL);
        if (st == EMBED_OK)
            st = tell(w, (uint64_t)here * t->manifest.layout.row_bytes);
    }
    emb_ngram_service_return(t->service, f);
fail:
    return st;
}

embed_status emb_ngram_warm(embed_table *t, uint64_t bytes, embed_job_fn report, void *user) {
    uint64_t all = 0;
    embed_status st = EMBED_OK;
    for (int32_t i = 0; i < t->n_parts; i++)
        all += t->parts[i].payload_bytes;
    bytes = bytes == 0 || bytes > all ? all : bytes;
    const int mapped = t->n_parts > 0 && t->io == EMBED_TABLE_IO_WILLNEED && t->parts[0].clear;
    uint64_t rows = bytes / t->manifest.layout.block_bytes * t->manifest.layout.rows_per_block;
    if (!mapped) {
        const uint64_t room = emb_ngram_cache_rows(t->cache);
        rows = rows < t->manifest.rows ? rows : t->manifest.rows;
        rows = rows < room ? rows : room;
        bytes = rows * t->manifest.layout.row_bytes;
    }
    warming w = {t, report, user, {"warm", "bytes", 0, bytes, bytes, 0}};
    EMB_TRY(tell(&w, 0));
    if (!mapped)
        return warm_cache(&w, rows);
    for (int32_t i = 0; i < t->n_parts && bytes > 0; i++) {
        const uint64_t here = bytes < t->parts[i].payload_bytes ? bytes : t->parts[i].payload_bytes;
        EMB_TRY(warm_map(&w, &t->parts[i], here));
        bytes -= here;
    }
fail:
    return st;
}

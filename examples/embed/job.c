#include "job.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "interrupt.h"
#include "progress.h"
#include "units.h"

#define BAR_WIDTH 20

/* "embed ngram count: needs about 700 MiB of memory and 2.10 GiB of disk", once. */
static void announce(job *j, const embed_job_report *r) {
    char memory[16], disk[16];
    if (j->announced || r->memory_bytes + r->disk_bytes == 0)
        return;
    j->announced = 1;
    units_size(r->memory_bytes, memory);
    units_size(r->disk_bytes, disk);
    if (r->disk_bytes == 0)
        fprintf(stderr, "%s: needs about %s of memory\n", j->who, memory);
    else if (r->memory_bytes == 0)
        fprintf(stderr, "%s: needs about %s of disk\n", j->who, disk);
    else
        fprintf(stderr, "%s: needs about %s of memory and %s of disk\n", j->who, memory, disk);
}

static const char *quantity(double n, const char *unit, char out[16]) {
    return strcmp(unit, "bytes") == 0 ? units_size((uint64_t)n, out) : units_amount(n, out);
}

static void draw(job *j, const embed_job_report *r, double now) {
    char done[16], rate[16], bar[BAR_WIDTH + 1];
    const char *unit = strcmp(r->unit, "bytes") == 0 ? "" : r->unit, *space = *unit ? " " : "";
    const double spent = now - j->phase_start, moved = (double)(r->done - j->phase_first);
    if (j->terminal)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "%s  ", r->phase);
    if (r->total) {
        const double share = r->done < r->total ? (double)r->done / (double)r->total : 1;
        const int full = (int)(share * BAR_WIDTH);
        memset(bar, '#', (size_t)full);
        memset(bar + full, '.', (size_t)(BAR_WIDTH - full));
        bar[BAR_WIDTH] = '\0';
        fprintf(stderr, "[%s] %3.0f %%  ", bar, 100 * share);
    }
    fprintf(stderr, "%s%s%s", quantity((double)r->done, r->unit, done), space, unit);
    if (spent > 0 && moved > 0) {
        fprintf(stderr, "  %s%s%s/s", quantity(moved / spent, r->unit, rate), space, unit);
        if (r->total > r->done) {
            const long left = (long)((double)(r->total - r->done) * spent / moved + 0.5);
            if (left >= 3600)
                fprintf(stderr, "  ETA %ld:%02ld:%02ld", left / 3600, left / 60 % 60, left % 60);
            else
                fprintf(stderr, "  ETA %ld:%02ld", left / 60, left % 60);
        }
    }
    if (!j->terminal)
        fputc('\n', stderr);
    fflush(stderr);
}

static int32_t report(void *user, const embed_job_report *r) {
    job *j = user;
    const double now = progress_now();
    announce(j, r);
    if (strncmp(j->phase, r->phase, sizeof j->phase - 1) != 0 || r->done < j->phase_first) {
        snprintf(j->phase, sizeof j->phase, "%s", r->phase);
        j->phase_start = now;
        j->phase_first = r->done;
        j->drawn = 0;
    }
    if (j->shown && now - j->drawn >= (j->terminal ? 0.1 : 1.0)) {
        draw(j, r, now);
        j->drawn = now;
    }
    return interrupt_seen();
}

void job_start(job *j, const char *who, embed_job *out) {
    interrupt_catch();
    j->who = who;
    j->terminal = isatty(STDERR_FILENO);
    j->shown = j->terminal || j->progress;
    j->start = progress_now();
    *out = (embed_job){.memory = j->memory,
                       .temp_dir = j->temp,
                       .threads = j->threads,
                       .resume = j->resume,
                       .report = report,
                       .user = j};
}

int job_end(job *j, embed_status status) {
    if (j->shown && j->terminal)
        fputs("\r\033[K", stderr);
    if (status == EMBED_OK)
        return EXIT_OK;
    if (status != EMBED_ERR_CANCELLED || !interrupt_seen())
        tool_fail(j->who, "%s", embed_last_error());
    return EXIT_FAILED;
}

double job_seconds(const job *j) {
    return progress_now() - j->start;
}

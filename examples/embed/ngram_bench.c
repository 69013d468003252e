/* embed ngram bench: how fast rows come from this disk and this memory, in every way there is, each
 * beside the bare system calls in the same run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "interrupt.h"
#include "json_out.h"
#include "ngram.h"
#include "progress.h"
#include "row_files.h"
#include "table_options.h"
#include "units.h"

#define MAX_ROUNDS 15
#define LIBRARY (-1) /* bench_method.raw: through embed_table_fetch */

typedef struct bench_method {
    const char *name, *how;
    int cold, raw; /* raw: a raw_method */
    int32_t mode, io;
} bench_method;

static const bench_method methods[] = {
    {"readahead", "mmap as it comes, one row after the other", 1, RAW_READAHEAD, 0, 0},
    {"faults", "mmap + MADV_RANDOM, one row after the other", 1, RAW_FAULTS, 0, 0},
    {"raw-pread", "pread, one after the other", 1, RAW_PREAD, 0, 0},
    {"raw-pool", "pread in 16 threads", 1, RAW_POOL, 0, 0},
    {"raw-uring", "io_uring, 64 in flight, O_DIRECT", 1, RAW_URING, 0, 0},
    {"willneed", "library, lazy: batched MADV_WILLNEED", 1, LIBRARY, EMBED_TABLE_LAZY,
     EMBED_TABLE_IO_WILLNEED},
    {"uring", "library, lazy: io_uring", 1, LIBRARY, EMBED_TABLE_LAZY, EMBED_TABLE_IO_URING},
    {"pread", "library, lazy: pool of preads", 1, LIBRARY, EMBED_TABLE_LAZY, EMBED_TABLE_IO_PREAD},
    {"read-uring", "library, read: io_uring", 1, LIBRARY, EMBED_TABLE_READ, EMBED_TABLE_IO_URING},
    {"read-pread", "library, read: pool of preads", 1, LIBRARY, EMBED_TABLE_READ,
     EMBED_TABLE_IO_PREAD},
    {"gather", "memcpy from the mapping", 0, RAW_GATHER, 0, 0},
    {"lazy", "library, lazy", 0, LIBRARY, EMBED_TABLE_LAZY, EMBED_TABLE_IO_WILLNEED},
    {"populate", "library, populate", 0, LIBRARY, EMBED_TABLE_POPULATE, EMBED_TABLE_IO_WILLNEED},
    {"huge", "library, huge pages", 0, LIBRARY, EMBED_TABLE_HUGE, EMBED_TABLE_IO_WILLNEED},
    {"read", "library, read", 0, LIBRARY, EMBED_TABLE_READ, EMBED_TABLE_IO_PREAD},
};
enum { METHODS = sizeof methods / sizeof methods[0] };

typedef struct bench_result {
    int chosen, rounds;
    double rows_per_s[MAX_ROUNDS], cpu_us[MAX_ROUNDS];
    double resident;   /* largest share in memory before a round */
    char refused[256]; /* why there is no figure */
} bench_result;

typedef struct bench {
    const char *who;
    table_options table;
    int32_t rounds, json;
    uint64_t wanted, batch, seed;
    embed_table *probe; /* open and untouched, tells what is in memory */
    embed_table_info info;
    row_files files;
    int64_t *rows;
    size_t n;
    float *out; /* [batch, width] */
    uint64_t raw_sum, library_sum;
    int raw_known, library_known;
    bench_result *results; /* [METHODS] */
} bench;

/* SplitMix64 (Steele, Lea, Flood 2014): the same rows in every run. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Different rows in random order. */
static int choose_rows(bench *b) {
    uint64_t state = b->seed;
    const uint64_t total = b->info.rows;
    b->n = (size_t)(b->wanted < total ? b->wanted : total);
    unsigned char *taken = calloc((size_t)(total / 8 + 1), 1);
    b->rows = malloc((b->n + 1) * sizeof *b->rows);
    if (!taken || !b->rows) {
        free(taken);
        return tool_fail(b->who, "not enough memory");
    }
    for (size_t i = 0; i < b->n;) {
        uint64_t row = next_random(&state) % total;
        while (2 * b->n > total && taken[row / 8] & 1u << row % 8) /* a crowded table */
            row = row + 1 < total ? row + 1 : 0;
        if (taken[row / 8] & 1u << row % 8)
            continue;
        taken[row / 8] |= (unsigned char)(1u << row % 8);
        b->rows[i++] = (int64_t)row;
    }
    free(taken);
    for (size_t i = b->n; i > 1; i--) {
        const size_t j = (size_t)(next_random(&state) % i);
        const int64_t t = b->rows[i - 1];
        b->rows[i - 1] = b->rows[j];
        b->rows[j] = t;
    }
    return EXIT_OK;
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double resident(const bench *b) {
    embed_table_stats stats = {.struct_size = sizeof stats};
    return embed_table_get_stats(b->probe, &stats) == EMBED_OK ? stats.resident_share : -1;
}

/* All rows through the library; the sum of their bits, or 0 and a reason. */
static int fetch_all(bench *b, embed_table *table, uint64_t *sum) {
    const size_t width = (size_t)b->info.width;
    for (size_t at = 0; at < b->n; at += (size_t)b->batch) {
        const size_t n = b->n - at < b->batch ? b->n - at : (size_t)b->batch;
        if (embed_table_fetch(table, b->rows + at, n, b->out, n * width, NULL) != EMBED_OK)
            return 0;
        for (size_t i = 0; i < n; i++) { /* the last number of each row */
            uint32_t bits;
            memcpy(&bits, &b->out[i * width + width - 1], sizeof bits);
            *sum += bits;
        }
    }
    return 1;
}

/* Different ways must bring the same bytes. */
static int check_sum(const bench *b, const bench_method *m, uint64_t sum, uint64_t *first,
                     int *known) {
    if (*known && *first != sum)
        return tool_fail(b->who, "FAIL: %s brought other bytes than the methods before it",
                         m->name);
    *first = sum;
    *known = 1;
    return EXIT_OK;
}

/* Opening is not part of the time. 1 with the time taken, 0 if refused, -1 after a message. */
static int time_library(bench *b, const bench_method *m, bench_result *r, double *wall,
                        double *cpu) {
    table_options o = b->table;
    embed_table_params params;
    embed_table *table;
    uint64_t sum = 0;
    o.mode = m->mode;
    o.io = m->io;
    o.cache = 0;
    table_options_fill(&o, &params);
    if (embed_table_open(&table, o.path, NULL, &params) != EMBED_OK) {
        snprintf(r->refused, sizeof r->refused, "%s", embed_last_error());
        return 0;
    }
    if (!m->cold && !fetch_all(b, table, &sum)) /* page tables and buffers */
        goto failed;
    sum = 0;
    *cpu = cpu_seconds();
    *wall = progress_now();
    if (!fetch_all(b, table, &sum))
        goto failed;
    *wall = progress_now() - *wall;
    *cpu = cpu_seconds() - *cpu;
    embed_table_free(table);
    return check_sum(b, m, sum, &b->library_sum, &b->library_known) == EXIT_OK ? 1 : -1;
failed:
    tool_fail(b->who, "%s", embed_last_error());
    embed_table_free(table);
    return -1;
}

static int time_raw(bench *b, const bench_method *m, bench_result *r, double *wall, double *cpu) {
    uint64_t sum = 0;
    int done = 1;
    if (!m->cold)
        done = row_files_read(&b->files, (raw_method)m->raw, b->rows, b->n, &sum);
    sum = 0;
    *cpu = cpu_seconds();
    *wall = progress_now();
    if (done > 0)
        done = row_files_read(&b->files, (raw_method)m->raw, b->rows, b->n, &sum);
    *wall = progress_now() - *wall;
    *cpu = cpu_seconds() - *cpu;
    if (done == 0)
        snprintf(r->refused, sizeof r->refused, "this system or this build has no io_uring");
    if (done <= 0)
        return done;
    return check_sum(b, m, sum, &b->raw_sum, &b->raw_known) == EXIT_OK ? 1 : -1;
}

static int run_once(bench *b, size_t i) {
    const bench_method *m = &methods[i];
    bench_result *r = &b->results[i];
    double wall = 0, cpu = 0;
    if (m->cold)
        row_files_drop(&b->files);
    else if (row_files_warm(&b->files) != EXIT_OK)
        return EXIT_FAILED;
    const double share = resident(b);
    const int done =
        m->raw == LIBRARY ? time_library(b, m, r, &wall, &cpu) : time_raw(b, m, r, &wall, &cpu);
    if (done < 0)
        return EXIT_FAILED;
    if (done == 0)
        return EXIT_OK;
    if (!r->rounds || (m->cold ? share > r->resident : share < r->resident))
        r->resident = share;
    r->rows_per_s[r->rounds] = (double)b->n / (wall > 0 ? wall : 1e-9);
    r->cpu_us[r->rounds++] = 1e6 * cpu / (double)b->n;
    return EXIT_OK;
}

static int run_all(bench *b) {
    for (int32_t round = 0; round < b->rounds; round++)
        for (size_t i = 0; i < METHODS; i++) {
            if (!b->results[i].chosen || *b->results[i].refused)
                continue;
            if (interrupt_seen())
                return EXIT_FAILED;
            if (run_once(b, i) != EXIT_OK)
                return EXIT_FAILED;
        }
    return EXIT_OK;
}

/* ------------------------------------------------------------------------------------- results */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int n) {
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return n ? (sorted[(n - 1) / 2] + sorted[n / 2]) / 2 : 0;
}

static double rate_of(const bench *b, const char *name) {
    for (size_t i = 0; i < METHODS; i++)
        if (strcmp(methods[i].name, name) == 0)
            return median(b->results[i].rows_per_s, b->results[i].rounds);
    return 0;
}

/* What a method is measured by: the bare system calls of the same run; 0 if they were not run. */
static double yardstick(const bench *b, const bench_method *m) {
    if (!m->cold)
        return rate_of(b, "gather");
    const double uring = rate_of(b, "raw-uring");
    return uring > 0 ? uring : rate_of(b, "raw-pool");
}

static void print_cell(double value, const char *format) {
    if (value > 0)
        printf(format, value);
    else
        printf("%10s", "-");
}

static void print_table(const bench *b) {
    char a[16], c[16];
    printf("%llu rows of %u bytes, %s of %llu rows in the table, %zu at random in batches of %llu, "
           "seed %llu\n"
           "cold: page cache dropped with posix_fadvise; of raw: against bare io_uring (cold) or "
           "memcpy (warm)\n\n",
           (unsigned long long)b->n, b->files.row_bytes, units_size(b->info.rows_bytes, a),
           (unsigned long long)b->info.rows, b->n, (unsigned long long)b->batch,
           (unsigned long long)b->seed);
    printf("%-11s %-5s %10s %10s %10s %10s %10s %10s  %s\n", "method", "state", "rows/s",
           "CPU us/row", "MiB/s", "of raw", "x faults", "in memory", "how");
    for (size_t i = 0; i < METHODS; i++) {
        const bench_method *m = &methods[i];
        const bench_result *r = &b->results[i];
        const double rate = median(r->rows_per_s, r->rounds);
        const double unit = yardstick(b, m), faults = m->cold ? rate_of(b, "faults") : 0;
        if (!r->chosen)
            continue;
        if (!r->rounds) {
            printf("%-11s %-5s not run: %s\n", m->name, m->cold ? "cold" : "warm", r->refused);
            continue;
        }
        printf("%-11s %-5s %10s", m->name, m->cold ? "cold" : "warm", units_amount(rate, c));
        printf(" %10.2f %10.1f", median(r->cpu_us, r->rounds),
               rate * b->files.row_bytes / (1 << 20));
        putchar(' ');
        print_cell(unit > 0 ? 100 * rate / unit : 0, "%8.0f %%");
        putchar(' ');
        print_cell(faults > 0 ? rate / faults : 0, "%10.1f");
        putchar(' ');
        if (r->resident >= 0)
            printf("%8.1f %%", 100 * r->resident);
        else
            printf("%10s", "-");
        printf("  %s\n", m->how);
    }
}

static int print_json(const bench *b) {
    json_value *root;
    json_doc *doc = json_out_new(&root);
    json_out_text(doc, root, "table", b->info.path);
    json_out_uint(doc, root, "table_rows", b->info.rows);
    json_out_uint(doc, root, "row_bytes", b->files.row_bytes);
    json_out_uint(doc, root, "rows_bytes", b->info.rows_bytes);
    json_out_uint(doc, root, "rows", b->n);
    json_out_uint(doc, root, "batch", b->batch);
    json_out_uint(doc, root, "seed", b->seed);
    json_out_int(doc, root, "rounds", b->rounds);
    json_value *list = json_out_array(doc, root, "methods");
    for (size_t i = 0; i < METHODS; i++) {
        const bench_method *m = &methods[i];
        const bench_result *r = &b->results[i];
        if (!r->chosen)
            continue;
        json_value *o = json_out_object(doc, list, "");
        json_out_text(doc, o, "method", m->name);
        json_out_text(doc, o, "state", m->cold ? "cold" : "warm");
        json_out_text(doc, o, "how", m->how);
        if (!r->rounds) {
            json_out_text(doc, o, "not_run", r->refused);
            continue;
        }
        const double rate = median(r->rows_per_s, r->rounds), unit = yardstick(b, m);
        json_out_real(doc, o, "rows_per_s", rate);
        json_out_real(doc, o, "cpu_us_per_row", median(r->cpu_us, r->rounds));
        json_out_real(doc, o, "bytes_per_s", rate * b->files.row_bytes);
        if (unit > 0)
            json_out_real(doc, o, "of_raw", rate / unit);
        if (m->cold && rate_of(b, "faults") > 0)
            json_out_real(doc, o, "times_faults", rate / rate_of(b, "faults"));
        if (r->resident >= 0)
            json_out_real(doc, o, "resident_before", r->resident);
    }
    return json_out_print(doc, b->who, stdout);
}

/* ------------------------------------------------------------------------------------- command */

/* "all", "cold", "warm" or names with commas between them. */
static int choose_methods(bench *b, const char *text) {
    for (const char *p = text; *p;) {
        const size_t len = strcspn(p, ",");
        int found = 0;
        for (size_t i = 0; i < METHODS; i++) {
            const char *group = methods[i].cold ? "cold" : "warm";
            const int match =
                (len == 3 && memcmp(p, "all", 3) == 0) ||
                (len == strlen(group) && memcmp(p, group, len) == 0) ||
                (len == strlen(methods[i].name) && memcmp(p, methods[i].name, len) == 0);
            b->results[i].chosen |= match;
            found |= match;
        }
        if (!found) {
            fprintf(stderr, "%s: --method: no method '%.*s'; all, cold, warm or some of:", b->who,
                    (int)len, p);
            for (size_t i = 0; i < METHODS; i++)
                fprintf(stderr, " %s", methods[i].name);
            fputc('\n', stderr);
            return EXIT_USAGE;
        }
        p += len + (p[len] == ',');
    }
    return EXIT_OK;
}

static int run(bench *b) {
    table_options o = b->table;
    o.mode = EMBED_TABLE_LAZY;
    o.io = EMBED_TABLE_IO_WILLNEED;
    int code = table_open(b->who, &o, NULL, &b->probe);
    b->info.struct_size = sizeof b->info;
    if (code == EXIT_OK && embed_table_get_info(b->probe, &b->info) != EMBED_OK)
        code = tool_fail(b->who, "%s", embed_last_error());
    if (code == EXIT_OK && b->info.rows == 0)
        code = tool_fail(b->who, "%s: a table without rows", b->info.path);
    if (code == EXIT_OK)
        code = row_files_open(&b->files, b->who, b->info.path, b->info.parts);
    if (code == EXIT_OK)
        code = choose_rows(b);
    if (code == EXIT_OK) {
        b->out = malloc((size_t)b->batch * (size_t)b->info.width * sizeof *b->out);
        code = b->out ? run_all(b) : tool_fail(b->who, "not enough memory");
    }
    if (code == EXIT_OK && b->json)
        code = print_json(b);
    else if (code == EXIT_OK)
        print_table(b);
    free(b->out);
    free(b->rows);
    row_files_close(&b->files);
    embed_table_free(b->probe);
    return code == EXIT_OK ? tool_flush_stdout(b->who) : code;
}

int ngram_bench(int argc, char **argv) {
    bench b = {.who = argv[0], .rounds = 3, .wanted = 20480, .batch = 4096, .seed = 42};
    const char *which = "all";
    int first;
    const command cmd = {
        "ngram bench",
        "[OPTION]... TABLE",
        "Measures how fast rows of a table come from this disk (cold) and this memory (warm):\n"
        "different rows at random, by plain page faults, by bare system calls and by the library\n"
        "in all its modes, interleaved, median of the rounds. All ways must bring equal bytes.",
        "  embed ngram bench --method all table\n"
        "  embed ngram bench --method faults,raw-uring,willneed --rows 100k --json table\n",
        1,
        1};
    const option_spec table[] = {
        {"run", "method", "LIST", "all, cold, warm, or names with commas between them (all)",
         &which, NULL, OPTION_TEXT, 0, 0, 0},
        {"run", "rows", "N", "rows that each method brings in a round (20480)", &b.wanted, NULL,
         OPTION_AMOUNT, 1, 0, 0},
        {"run", "batch", "N", "rows of one call of the library (4096)", &b.batch, NULL,
         OPTION_AMOUNT, 1, 0, 0},
        {"run", "rounds", "N", "rounds (3)", &b.rounds, NULL, OPTION_COUNT, 1, MAX_ROUNDS, 0},
        {"run", "seed", "N", "of the choice of rows (42)", &b.seed, NULL, OPTION_AMOUNT, 0, 0, 0},
        OPTION_KEY(b.table),
        OPTION_ALLOW_UNSAFE(b.table),
        {"output", "json", NULL, "print JSON", &b.json, NULL, OPTION_FLAG, 0, 0, 0},
        OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (b.batch > UINT32_MAX)
        return tool_usage(argv[0], "--batch: at most %u", UINT32_MAX);
    b.results = calloc(METHODS, sizeof *b.results);
    int code = b.results ? choose_methods(&b, which) : tool_fail(argv[0], "not enough memory");
    b.table.path = argv[first];
    interrupt_catch();
    if (code == EXIT_OK)
        code = run(&b);
    free(b.results);
    interrupt_obey();
    return code;
}

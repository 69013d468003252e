#include "ngram_tally.h"

#include <stdlib.h>

#include "whole_file.h"

typedef struct row_hits {
    uint32_t row, hits;
} row_hits;

int ngram_tally_start(ngram_tally *t, const char *who, uint64_t rows) {
    *t = (ngram_tally){.rows = rows};
    t->hits = calloc(rows ? rows : 1, sizeof *t->hits);
    return t->hits ? EXIT_OK
                   : tool_fail(who, "not enough memory to count the hits of %llu rows",
                               (unsigned long long)rows);
}

void ngram_tally_end(ngram_tally *t) {
    free(t->hits);
    *t = (ngram_tally){0};
}

void ngram_tally_add(ngram_tally *t, const int64_t *rows, const int32_t *lengths, size_t n) {
    t->texts++;
    t->tokens += n;
    for (size_t i = 0; i < n; i++) {
        t->by_length[lengths[i]]++;
        if (rows[i] < 0)
            continue;
        uint32_t *hits = &t->hits[rows[i]];
        t->matched++;
        t->distinct += *hits == 0;
        *hits += *hits < UINT32_MAX;
    }
}

double ngram_tally_mean_length(const ngram_tally *t) {
    uint64_t sum = 0;
    for (unsigned n = 2; n < 9; n++)
        sum += n * t->by_length[n];
    return t->matched ? (double)sum / (double)t->matched : 0;
}

static int by_hits(const void *a, const void *b) {
    const row_hits *x = a, *y = b;
    if (x->hits != y->hits)
        return x->hits < y->hits ? 1 : -1;
    return (x->row > y->row) - (x->row < y->row);
}

/* The rows that were hit, most often hit first; NULL if memory is short. */
static row_hits *sorted(const ngram_tally *t) {
    row_hits *all = malloc((t->distinct + 1) * sizeof *all);
    size_t n = 0;
    for (uint64_t row = 0; all && row < t->rows; row++)
        if (t->hits[row])
            all[n++] = (row_hits){(uint32_t)row, t->hits[row]};
    if (all)
        qsort(all, n, sizeof *all, by_hits);
    return all;
}

static int no_memory(const char *who, const ngram_tally *t) {
    return tool_fail(who, "not enough memory to sort %llu rows", (unsigned long long)t->distinct);
}

int ngram_tally_hot(const ngram_tally *t, const char *who, double share, double *first,
                    double *hottest) {
    const uint64_t n = (uint64_t)(share * (double)t->rows + 0.5);
    uint64_t in_first = 0, in_hottest = 0;
    row_hits *all = sorted(t);
    if (!all)
        return no_memory(who, t);
    for (uint64_t row = 0; row < n; row++)
        in_first += t->hits[row];
    for (uint64_t i = 0; i < n && i < t->distinct; i++)
        in_hottest += all[i].hits;
    free(all);
    *first = t->matched ? (double)in_first / (double)t->matched : 0;
    *hottest = t->matched ? (double)in_hottest / (double)t->matched : 0;
    return EXIT_OK;
}

int ngram_tally_write_log(const ngram_tally *t, const char *who, const char *path) {
    row_hits *all = sorted(t);
    if (!all)
        return no_memory(who, t);
    whole_file file;
    int code = whole_file_open(&file, who, path);
    if (code == EXIT_OK) {
        for (uint64_t i = 0; i < t->distinct; i++)
            fprintf(file.file, "{\"row\":%u,\"hits\":%u}\n", all[i].row, all[i].hits);
        code = whole_file_finish(&file);
    }
    whole_file_close(&file);
    free(all);
    return code;
}

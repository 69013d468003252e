#include "coverage_plot.h"

#include <math.h>
#include <stdio.h>

#include "tool.h"
#include "units.h"
#include "whole_file.h"

#define WIDTH 760
#define HEIGHT 460
#define LEFT 70
#define RIGHT 110
#define TOP 64
#define BOTTOM 62
#define INK "#1a1a1a"
#define GRID "#d9d9d9"
#define MOST_TICKS 8

/* Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind readers too. */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#e69f00", "#56b4e9", "#000000"};
#define N_COLOURS (sizeof colours / sizeof *colours)

typedef struct plot {
    FILE *file;
    double low, high; /* log2 of bytes at the ends of the x axis */
    double top;       /* share at the upper end of the y axis */
} plot;

static double share_of(const embed_advise_cell *c) {
    return c->positions ? (double)c->matched / (double)c->positions : 0;
}

static double x_of(const plot *p, double bytes) {
    return LEFT + (log2(bytes) - p->low) / (p->high - p->low) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const plot *p, double share) {
    return HEIGHT - BOTTOM - share / p->top * (HEIGHT - TOP - BOTTOM);
}

static void set_axes(plot *p, const embed_advise_cell *cells, size_t n) {
    static const double tops[] = {0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1};
    double most = 0;
    size_t i = 0;
    p->low = INFINITY;
    p->high = -INFINITY;
    for (size_t c = 0; c < n; c++) {
        const double bits = log2((double)cells[c].disk_bytes);
        most = fmax(most, share_of(&cells[c]));
        p->low = fmin(p->low, floor(bits));
        p->high = fmax(p->high, ceil(bits));
    }
    while (i + 1 < sizeof tops / sizeof *tops && tops[i] < most)
        i++;
    p->top = tops[i];
    if (!(p->high > p->low)) { /* one point, or none */
        p->low = (p->low < 1e3 ? p->low : 20) - 1;
        p->high = p->low + 2;
    }
}

static void draw_axes(const plot *p) {
    FILE *f = p->file;
    double step = 1;
    char size[16];
    while ((p->high - p->low) / step > MOST_TICKS)
        step++;
    for (double bits = p->low; bits <= p->high; bits += step) {
        const double x = x_of(p, exp2(bits));
        fprintf(f, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"" GRID "\"/>\n", x,
                TOP, x, HEIGHT - BOTTOM);
        /* whole powers of two need no decimals */
        const double unit = exp2(10 * floor(bits / 10));
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f %s</text>\n", x,
                HEIGHT - BOTTOM + 20, exp2(bits) / unit,
                bits < 10 ? "B" : units_size((uint64_t)unit, size) + sizeof "1.00");
    }
    for (int i = 0; i <= 4; i++) {
        const double share = p->top * i / 4, y = y_of(p, share);
        fprintf(f, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\"/>\n", LEFT, y,
                WIDTH - RIGHT, y, i ? GRID : INK);
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g %%</text>\n", LEFT - 8,
                y + 4, 100 * share);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">table on disk</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14);
    fprintf(f,
            "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">"
            "held-out tokens matched</text>\n",
            (TOP + HEIGHT - BOTTOM) / 2);
}

/* Lines differ in the shape of their marks as well as in colour. */
static void draw_mark(const plot *p, size_t series, double x, double y) {
    static const char *const shapes[] = {"M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
                                         "M-4 -4H4V4H-4Z",
                                         "M0 -5L5 4H-5Z",
                                         "M0 -6L5 0L0 6L-5 0Z",
                                         "M0 5L5 -4H-5Z",
                                         "M-2 -5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z"};
    fprintf(p->file, "<path transform=\"translate(%.1f %.1f)\" d=\"%s\" fill=\"%s\"/>\n", x, y,
            shapes[series % (sizeof shapes / sizeof *shapes)], colours[series % N_COLOURS]);
}

/* The cells of one K. */
static void draw_series(const plot *p, size_t series, const embed_advise_cell *cells, size_t n) {
    const char *colour = colours[series % N_COLOURS];
    const double legend = TOP + 10 + 24 * (double)series;
    fprintf(p->file, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (size_t i = 0; i < n; i++)
        fprintf(p->file, "%.1f,%.1f ", x_of(p, (double)cells[i].disk_bytes),
                y_of(p, share_of(&cells[i])));
    fputs("\"/>\n", p->file);
    for (size_t i = 0; i < n; i++)
        draw_mark(p, series, x_of(p, (double)cells[i].disk_bytes), y_of(p, share_of(&cells[i])));
    fprintf(p->file,
            "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\" "
            "stroke-width=\"2\"/>\n",
            WIDTH - RIGHT + 16, legend, WIDTH - RIGHT + 44, legend, colour);
    draw_mark(p, series, WIDTH - RIGHT + 30, legend);
    fprintf(p->file, "<text x=\"%d\" y=\"%.1f\">K = %d</text>\n", WIDTH - RIGHT + 52, legend + 4,
            cells[0].k);
}

static void draw(plot *p, const embed_advise_cell *cells, size_t n,
                 const embed_advise_sample *sample) {
    char counted[16], held[16];
    size_t series = 0;
    fprintf(p->file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\" fill=\"" INK
            "\">\n<title>Coverage of n-gram tables</title>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    fprintf(p->file,
            "<text x=\"%d\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Share of tokens that a "
            "table of n-grams covers</text>\n",
            LEFT);
    fprintf(p->file,
            "<text x=\"%d\" y=\"46\">counted in %s tokens, looked up in %s other ones; n-grams of "
            "2 to K tokens</text>\n",
            LEFT, units_amount((double)sample->tokens_counted, counted),
            units_amount((double)sample->tokens_held, held));
    set_axes(p, cells, n);
    draw_axes(p);
    for (size_t i = 0; i < n; series++) {
        size_t end = i + 1;
        while (end < n && cells[end].k == cells[i].k)
            end++;
        draw_series(p, series, cells + i, end - i);
        i = end;
    }
    fputs("</svg>\n", p->file);
}

int coverage_plot_write(const char *who, const char *path, const embed_advise_cell *cells, size_t n,
                        const embed_advise_sample *sample) {
    whole_file file;
    int code = whole_file_open(&file, who, path);
    if (code == EXIT_OK) {
        plot p = {.file = file.file};
        draw(&p, cells, n, sample);
        code = whole_file_finish(&file);
    }
    whole_file_close(&file);
    return code;
}

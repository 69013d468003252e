/* The whole way from text to ranking with the real all-MiniLM-L6-v2, against the figures that
 * sentence-transformers 6.2 reaches with it: Spearman correlation 0.8203 on the English STS-B test
 * pairs, nDCG@10 0.3953 on Cranfield (title + space + text, cosine, 256 tokens). */
#include "support/test.h"

#include "embed.h"
#include "third_party/yyjson/yyjson.h"

#include <unistd.h>

#define MINILM_DIR TEST_MODELS_DIR "/all-MiniLM-L6-v2"
#define STSB_SPEARMAN 0.8203
#define STSB_TOLERANCE 1e-4
#define CRANFIELD_NDCG 0.3953
#define CRANFIELD_TOLERANCE 1e-3
#define TOP 10

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* Cranfield takes minutes then, and has nothing new for a sanitizer */
#else
#define SANITIZED 0
#endif

typedef struct engine {
    embed_model *model;
    embed_context *ctx;
    size_t dim;
} engine;

static int open_engine(void **state) {
    static engine e;
    embed_model_info info = {.struct_size = sizeof info};
    if (access(MINILM_DIR "/model.safetensors", R_OK) != 0)
        return 0; /* the tests are skipped */
    if (embed_model_open(&e.model, MINILM_DIR, NULL) != EMBED_OK ||
        embed_context_create(&e.ctx, e.model, NULL) != EMBED_OK ||
        embed_model_get_info(e.model, &info) != EMBED_OK) {
        print_error("%s\n", embed_last_error());
        return -1;
    }
    e.dim = (size_t)info.dim;
    *state = &e;
    return 0;
}

static int close_engine(void **state) {
    engine *e = *state;
    if (e != NULL) {
        embed_context_free(e->ctx);
        embed_model_free(e->model);
    }
    return 0;
}

static engine *engine_or_skip(void **state) {
    if (*state == NULL) {
        print_message("           skipped: no " MINILM_DIR "; sh examples/fetch_minilm.sh\n");
        skip();
    }
    return *state;
}

static float *encode(const engine *e, const embed_text *texts, size_t n) {
    float *out = malloc(n * e->dim * sizeof *out);
    assert_non_null(out);
    if (embed_encode(e->ctx, texts, n, NULL, out, n * e->dim) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    return out;
}

static char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("%s: cannot be opened", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long end = ftell(f);
    assert_true(end >= 0);
    rewind(f);
    *size = (size_t)end;
    char *data = calloc(1, *size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

/* ------------------------------------------------------------------------------------- STS-B */

/* Next field of an RFC 4180 file, unquoted in place; *p moves past the delimiter. */
static embed_text csv_field(char **p) {
    char *in = *p, *start = in, *end = in;
    int quoted = 0;
    for (; *in != '\0'; in++) {
        if (*in == '"' && quoted && in[1] == '"')
            *end++ = *in++;
        else if (*in == '"')
            quoted = !quoted;
        else if (!quoted && (*in == ',' || *in == '\n'))
            break;
        else if (quoted || *in != '\r')
            *end++ = *in;
    }
    *p = *in == '\0' ? in : in + 1;
    return (embed_text){start, (size_t)(end - start)};
}

typedef struct ranked {
    double value;
    size_t index;
} ranked;

static int by_value(const void *a, const void *b) {
    const double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return (x > y) - (x < y);
}

/* In place: each value becomes its rank, ties their average. */
static void to_ranks(double *x, size_t n) {
    ranked *r = malloc(n * sizeof *r);
    assert_non_null(r);
    for (size_t i = 0; i < n; i++)
        r[i] = (ranked){x[i], i};
    qsort(r, n, sizeof *r, by_value);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && !(r[j].value > r[i].value); j++)
            ;
        for (size_t k = i; k < j; k++)
            x[r[k].index] = (double)(i + j - 1) / 2;
    }
    free(r);
}

static double spearman(double *x, double *y, size_t n) {
    const double mean = (double)(n - 1) / 2;
    double xy = 0, xx = 0, yy = 0;
    to_ranks(x, n);
    to_ranks(y, n);
    for (size_t i = 0; i < n; i++) {
        xy += (x[i] - mean) * (y[i] - mean);
        xx += (x[i] - mean) * (x[i] - mean);
        yy += (y[i] - mean) * (y[i] - mean);
    }
    return xy / sqrt(xx * yy);
}

static void test_stsb(void **state) {
    enum { MAX = 2000 };
    engine *e = engine_or_skip(state);
    embed_text *texts = calloc(2 * MAX, sizeof *texts);
    double *gold = calloc(MAX, sizeof *gold), *ours = calloc(MAX, sizeof *ours);
    size_t size, n = 0;
    char *data = read_file(TEST_DATA_DIR "/stsb/stsb-en-test.csv", &size), *p = data;
    for (; *p != '\0' && n < MAX; n++) {
        texts[2 * n] = csv_field(&p);
        texts[2 * n + 1] = csv_field(&p);
        gold[n] = strtod(csv_field(&p).ptr, NULL);
    }
    assert_int_equal(n, 1379);
    float *v = encode(e, texts, 2 * n);
    for (size_t i = 0; i < n; i++)
        ours[i] = embed_cosine(v + 2 * i * e->dim, v + (2 * i + 1) * e->dim, e->dim);
    const double got = spearman(ours, gold, n);
    print_message("           STS-B: %zu pairs, Spearman %.5f\n", n, got);
    if (!(fabs(got - STSB_SPEARMAN) <= STSB_TOLERANCE))
        fail_msg("Spearman %.5f, expected %.4f", got, STSB_SPEARMAN);
    free(v);
    free(ours);
    free(gold);
    free(texts);
    free(data);
}

/* ---------------------------------------------------------------------------------- Cranfield */

typedef struct collection {
    char *lines;  /* the file */
    char *joined; /* title, space, text */
    embed_text *texts;
    int *ids;
    size_t n;
} collection;

static void read_collection(collection *c, const char *path, int titled) {
    enum { MAX = 1500 };
    size_t size;
    c->lines = read_file(path, &size);
    c->joined = malloc(size + 1);
    c->texts = calloc(MAX, sizeof *c->texts);
    c->ids = calloc(MAX, sizeof *c->ids);
    c->n = 0;
    char *out = c->joined;
    for (char *line = strtok(c->lines, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        yyjson_doc *doc = yyjson_read(line, strlen(line), 0);
        assert_non_null(doc);
        assert_true(c->n < MAX);
        yyjson_val *root = yyjson_doc_get_root(doc);
        char *start = out;
        if (titled) {
            yyjson_val *title = yyjson_obj_get(root, "title");
            memcpy(out, yyjson_get_str(title), yyjson_get_len(title));
            out += yyjson_get_len(title);
            *out++ = ' ';
        }
        yyjson_val *text = yyjson_obj_get(root, "text");
        memcpy(out, yyjson_get_str(text), yyjson_get_len(text));
        out += yyjson_get_len(text);
        c->texts[c->n] = (embed_text){start, (size_t)(out - start)};
        c->ids[c->n++] = atoi(yyjson_get_str(yyjson_obj_get(root, "_id")));
        yyjson_doc_free(doc);
    }
}

static void free_collection(collection *c) {
    free(c->ids);
    free(c->texts);
    free(c->joined);
    free(c->lines);
}

/* relevant[q * docs + d]; the file holds query, document, 1. */
static unsigned char *read_judgements(const collection *queries, const collection *docs) {
    size_t size, rows = 0;
    char *data = read_file(TEST_DATA_DIR "/cranfield/qrels/test.tsv", &size);
    unsigned char *relevant = calloc(queries->n * docs->n, 1);
    assert_non_null(relevant);
    strtok(data, "\n"); /* header */
    for (char *line = strtok(NULL, "\n"); line != NULL; line = strtok(NULL, "\n"), rows++) {
        char *rest;
        const long query = strtol(line, &rest, 10), doc = strtol(rest, &rest, 10);
        assert_int_equal(strtol(rest, NULL, 10), 1);
        size_t q = 0, d = 0;
        while (q < queries->n && queries->ids[q] != query)
            q++;
        while (d < docs->n && docs->ids[d] != doc)
            d++;
        assert_true(q < queries->n && d < docs->n);
        relevant[q * docs->n + d] = 1;
    }
    assert_int_equal(rows, 1612);
    free(data);
    return relevant;
}

/* Jaervelin & Kekaelaeinen 2002: gains of the first ten over the best possible, log2 discount. */
static double ndcg(const float *query, const float *vectors, size_t dim,
                   const unsigned char *relevant, size_t n) {
    double best[TOP], got = 0, ideal = 0;
    int gain[TOP] = {0};
    size_t kept = 0, total = 0;
    for (size_t d = 0; d < n; d++) {
        const double score = embed_cosine(query, vectors + d * dim, dim);
        total += relevant[d];
        size_t at = kept < TOP ? kept++ : TOP;
        for (; at > 0 && score > best[at - 1]; at--)
            if (at < TOP) {
                best[at] = best[at - 1];
                gain[at] = gain[at - 1];
            }
        if (at < TOP) {
            best[at] = score;
            gain[at] = relevant[d];
        }
    }
    for (size_t i = 0; i < TOP; i++) {
        got += gain[i] / log2((double)i + 2);
        ideal += i < total ? 1 / log2((double)i + 2) : 0;
    }
    return got / ideal;
}

static void test_cranfield(void **state) {
    engine *e = engine_or_skip(state);
    if (SANITIZED)
        skip();
    collection docs, queries;
    read_collection(&docs, TEST_DATA_DIR "/cranfield/corpus.jsonl", 1);
    read_collection(&queries, TEST_DATA_DIR "/cranfield/queries.jsonl", 0);
    assert_int_equal(docs.n, 1400);
    assert_int_equal(queries.n, 225);
    unsigned char *relevant = read_judgements(&queries, &docs);
    float *d = encode(e, docs.texts, docs.n), *q = encode(e, queries.texts, queries.n);
    double sum = 0;
    for (size_t i = 0; i < queries.n; i++)
        sum += ndcg(q + i * e->dim, d, e->dim, relevant + i * docs.n, docs.n);
    const double got = sum / (double)queries.n;
    print_message("           Cranfield: %zu queries, nDCG@10 %.5f\n", queries.n, got);
    if (!(fabs(got - CRANFIELD_NDCG) <= CRANFIELD_TOLERANCE))
        fail_msg("nDCG@10 %.5f, expected %.4f", got, CRANFIELD_NDCG);
    free(q);
    free(d);
    free(relevant);
    free_collection(&queries);
    free_collection(&docs);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stsb),
                                       cmocka_unit_test(test_cranfield)};
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}

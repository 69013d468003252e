/* The tokeniser against the `tokenizers` library: every golden row of tests/golden/README.md.
 * usage: test_tokenizer_golden [PART]   only tokenizers whose name contains PART, all mismatches */
#include <unistd.h>

#include "support/test.h"

#include "tokenizer/tokenizer.h"

#define FOLDER TEST_DATA_DIR "/tokenizer_golden/"
#define MAX_RUNS 128

typedef struct bytes {
    uint8_t *ptr;
    size_t len, at;
} bytes;

typedef struct run { /* one line of runs.tsv */
    char name[64];
    long max_tokens, flags, first, step;
} run;

typedef struct goldens {
    bytes lines, ids;
    size_t n, runs;
    embed_text *text; /* [n] */
    uint32_t *row;    /* [n * runs] offset of the row in ids, 0 if the run skips the line */
    char *categories;
    run run[MAX_RUNS];
} goldens;

static goldens all;
static const char *part = "";

static bytes read_file(const char *path) {
    bytes b = {0};
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: cannot be read; the build unpacks it", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    b.len = (size_t)ftell(f);
    rewind(f);
    b.ptr = malloc(b.len + 1);
    assert_non_null(b.ptr);
    assert_int_equal(fread(b.ptr, 1, b.len, f), b.len);
    b.ptr[b.len] = 0;
    fclose(f);
    return b;
}

static size_t varint(bytes *b) {
    size_t n = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(b->at < b->len && shift < 35);
        const uint8_t c = b->ptr[b->at++];
        n |= (size_t)(c & 127) << shift;
        if (c < 128)
            return n;
    }
}

static int takes(const run *r, size_t line) {
    return line >= (size_t)r->first && (line - (size_t)r->first) % (size_t)r->step == 0;
}

static int load(void **state) {
    (void)state;
    bytes table = read_file(FOLDER "runs.tsv");
    for (char *s = strtok((char *)table.ptr, "\n"); s; s = strtok(NULL, "\n")) {
        run *r = &all.run[all.runs++];
        assert_true(all.runs <= MAX_RUNS);
        assert_int_equal(sscanf(s, "%63s %ld %ld %ld %ld", r->name, &r->max_tokens, &r->flags,
                                &r->first, &r->step),
                         5);
    }
    free(table.ptr);
    all.categories = (char *)read_file(FOLDER "categories.tsv").ptr;
    all.lines = read_file(FOLDER "lines.bin");
    all.ids = read_file(FOLDER "ids.bin");
    all.n = varint(&all.lines);
    all.text = calloc(all.n, sizeof *all.text);
    all.row = calloc(all.n * all.runs, sizeof *all.row);
    assert_true(all.text && all.row);
    for (size_t i = 0; i < all.n; i++) {
        const size_t len = varint(&all.lines);
        assert_true(len <= all.lines.len - all.lines.at);
        all.text[i] = (embed_text){(const char *)all.lines.ptr + all.lines.at, len};
        all.lines.at += len;
        uint32_t *row = all.row + i * all.runs;
        for (size_t r = 0; r < all.runs; r++) {
            if (!takes(&all.run[r], i))
                continue;
            const size_t same = varint(&all.ids);
            assert_true(same <= r);
            row[r] = same ? row[same - 1] : (uint32_t)all.ids.at;
            if (!same)
                for (size_t n = varint(&all.ids); n > 0; n--)
                    varint(&all.ids);
        }
    }
    assert_true(all.lines.at == all.lines.len && all.ids.at == all.ids.len);
    return 0;
}

static int unload(void **state) {
    (void)state;
    free(all.lines.ptr);
    free(all.ids.ptr);
    free(all.text);
    free(all.row);
    free(all.categories);
    return 0;
}

/* The JSON value behind the first "key": of a file: from its first byte to after its last. */
static bytes json_member(const char *path, const char *key) {
    bytes file = read_file(path);
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr((char *)file.ptr, quoted);
    assert_non_null(at);
    at = strchr(at + strlen(quoted), ':') + 1;
    at += strspn(at, " \n");
    const char *end = at;
    int depth = 0, string = 0;
    do {
        if (*end == '"')
            string = !string;
        else if (*end == '\\' && string)
            end++;
        else if (!string)
            depth += (*end == '{' || *end == '[') - (*end == '}' || *end == ']');
        end++;
    } while (depth > 0 || string);
    const bytes value = {file.ptr, (size_t)(end - at), 0};
    memmove(file.ptr, at, value.len);
    return value;
}

static bytes part_named(const char *name, size_t len) {
    char path[512];
    if (len == 6 && !memcmp(name, "minilm", len))
        return json_member(TEST_DATA_DIR "/tokenizers/all-MiniLM-L6-v2/tokenizer.json", "vocab");
    if (len == 4 && !memcmp(name, "xlmr", len))
        return json_member(TEST_DATA_DIR "/tokenizers/xlm-roberta/tokenizer.json", "vocab");
    if (len == 8 && !memcmp(name, "charsmap", len))
        return json_member(TEST_DATA_DIR "/tokenizers/xlm-roberta/tokenizer.json",
                           "precompiled_charsmap");
    snprintf(path, sizeof path, FOLDER "%.*s.json", (int)len, name);
    return read_file(path);
}

/* Write the tokenizer.json of a run: its file with each "@name" replaced by that part. */
static void write_tokenizer(const run *r, const char *path) {
    char source[512];
    snprintf(source, sizeof source, FOLDER "%s.json", r->name);
    bytes text = read_file(source);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    const char *from = (char *)text.ptr;
    for (const char *at; (at = strstr(from, "\"@")) != NULL;) {
        const size_t len = strcspn(at + 2, "\"");
        if (!len || !strchr("abcdefghijklmnopqrstuvwxyz", at[2])) { /* a token such as "@@" */
            fwrite(from, 1, (size_t)(at + 2 - from), f);
            from = at + 2;
            continue;
        }
        bytes value = part_named(at + 2, len);
        fwrite(from, 1, (size_t)(at - from), f);
        fwrite(value.ptr, 1, value.len, f);
        free(value.ptr);
        from = at + 2 + len + 1;
    }
    fputs(from, f);
    assert_int_equal(fclose(f), 0);
    free(text.ptr);
}

static emb_tokenizer *open_run(const run *r) {
    const emb_env env = test_env();
    emb_tokenizer *tok = NULL;
    char path[512];
    snprintf(path, sizeof path, FOLDER "composed-%ld-%s.json", (long)getpid(), r->name);
    write_tokenizer(r, path);
    const embed_status st = emb_tokenizer_open(&tok, &env, path);
    remove(path);
    if (st != EMBED_OK)
        print_error("%s: %s\n", r->name, emb_fail_message());
    return tok;
}

static const char *category(size_t line) {
    static char name[64];
    for (const char *s = all.categories; s && *s; s = strchr(s, '\n'), s += s != NULL) {
        long first;
        char found[64];
        if (sscanf(s, "%ld %63s", &first, found) != 2 || (size_t)first > line)
            break;
        memcpy(name, found, sizeof name);
    }
    return name;
}

static void print_ids(const char *what, const int32_t *ids, size_t n, size_t around) {
    const size_t first = around > 8 ? around - 8 : 0, last = n < around + 12 ? n : around + 12;
    print_error("    %s %zu ids%s", what, n, first ? " ..." : "");
    for (size_t i = first; i < last; i++)
        print_error("%s%d", i == around ? " >" : " ", (int)ids[i]);
    print_error("%s\n", last < n ? " ..." : "");
}

static void print_mismatch(const run *r, size_t line, const int32_t *got, size_t n,
                           const int32_t *want, size_t m) {
    const embed_text t = all.text[line];
    size_t at = 0;
    while (at < n && at < m && got[at] == want[at])
        at++;
    print_error("%s max=%ld flags=%ld line %zu (%s), first difference at id %zu\n    \"", r->name,
                r->max_tokens, r->flags, line, category(line), at);
    for (size_t i = 0; i < t.len && i < 400; i++) {
        const uint8_t c = (uint8_t)t.ptr[i];
        if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\')
            print_error("%c", c);
        else
            print_error("\\x%02x", c);
    }
    print_error("%s\"\n", t.len > 400 ? "..." : "");
    print_ids("got ", got, n, at);
    print_ids("want", want, m, at);
}

/* The golden row, or the number of ids alone if ids is NULL. */
static size_t golden(size_t line, size_t r, int32_t **ids, size_t *capacity) {
    bytes b = all.ids;
    b.at = all.row[line * all.runs + r];
    const size_t n = varint(&b);
    if (!ids)
        return n;
    if (n > *capacity) {
        *capacity = 2 * n;
        *ids = realloc(*ids, *capacity * sizeof **ids);
        assert_non_null(*ids);
    }
    for (size_t i = 0; i < n; i++)
        (*ids)[i] = (int32_t)varint(&b);
    return n;
}

/* All lines of one run; `full` is the run of the same tokenizer and flags that cuts nothing, or -1.
 * Returns the number of mismatches. */
static size_t compare_run(const emb_tokenizer *tok, emb_tok_scratch *scratch, size_t index,
                          long full, size_t *rows) {
    const run *r = &all.run[index];
    const emb_tok_options options = {{NULL, 0}, r->max_tokens, (uint32_t)r->flags};
    int32_t *want = NULL;
    size_t capacity = 0, bad = 0;
    for (size_t line = 0; line < all.n; line++) {
        if (!takes(r, line))
            continue;
        const size_t m = golden(line, index, &want, &capacity);
        const int32_t *got = NULL;
        size_t n = 0;
        int32_t truncated = -1;
        const embed_status st =
            emb_tokenizer_encode(tok, scratch, all.text[line], &options, &got, &n, &truncated);
        if (st != EMBED_OK)
            fail_msg("%s line %zu: %s", r->name, line, emb_fail_message());
        int cut = 0, known = !r->max_tokens;
        if (full >= 0 && takes(&all.run[full], line)) {
            cut = golden(line, (size_t)full, NULL, NULL) > m;
            known = 1;
        }
        ++*rows;
        const int same = n == m && (!m || !memcmp(got, want, m * sizeof *want));
        if (same && (!known || truncated == cut))
            continue;
        bad++;
        if (bad > 5 && !*part)
            continue;
        if (same)
            print_error("%s line %zu: truncated is %d, expected %d\n", r->name, line,
                        (int)truncated, cut);
        else
            print_mismatch(r, line, got, n, want, m);
    }
    free(want);
    return bad;
}

static void compare_family(const char *family) {
    const emb_env env = test_env();
    emb_tok_scratch *scratch = NULL;
    emb_tokenizer *tok = NULL;
    size_t rows = 0, bad = 0, files = 0, failed_opens = 0;
    assert_int_equal(emb_tok_scratch_create(&scratch, &env), EMBED_OK);
    for (size_t i = 0; i < all.runs; i++) {
        const run *r = &all.run[i];
        if (strncmp(r->name, family, strlen(family)) || !strstr(r->name, part))
            continue;
        if (!i || strcmp(all.run[i - 1].name, r->name) || !tok) {
            emb_tokenizer_free(tok);
            tok = open_run(r);
            failed_opens += !tok;
            files++;
        }
        long full = -1;
        for (size_t k = 0; k < all.runs; k++)
            if (!strcmp(all.run[k].name, r->name) && !all.run[k].max_tokens &&
                all.run[k].flags == r->flags)
                full = (long)k;
        const size_t wrong = tok ? compare_run(tok, scratch, i, full, &rows) : 0;
        if (wrong)
            print_error("%s max=%ld flags=%ld: %zu mismatches\n", r->name, r->max_tokens, r->flags,
                        wrong);
        bad += wrong;
    }
    emb_tokenizer_free(tok);
    emb_tok_scratch_free(scratch);
    print_message("%s %zu lines, %zu tokenizers, %zu rows: %zu mismatches\n", family, all.n, files,
                  rows, bad);
    if (bad || failed_opens)
        fail_msg("%zu mismatches, %zu tokenizers that do not open", bad, failed_opens);
}

static void wordpiece_agrees(void **state) {
    (void)state;
    compare_family("wordpiece-");
}

static void unigram_agrees(void **state) {
    (void)state;
    compare_family("unigram-");
}

int main(int argc, char **argv) {
    if (argc > 1)
        part = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wordpiece_agrees),
        cmocka_unit_test(unigram_agrees),
    };
    return cmocka_run_group_tests(tests, load, unload);
}

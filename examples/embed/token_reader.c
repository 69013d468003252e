#include "token_reader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const option_choice token_formats[] = {{"txt", TEXT_LINES}, {"jsonl", TEXT_JSONL}, {NULL, 0}};

int token_options_check(const char *who, const token_options *o) {
    if (o->ids && (o->prefix || o->role || o->max_tokens || o->format || o->strict))
        return tool_usage(who, "--ids takes no --role, --prefix, --max-tokens, --input-format or "
                               "--strict-utf8");
    if (o->prefix && o->role)
        return tool_usage(who, "--prefix and --role contradict each other");
    return EXIT_OK;
}

/* Bytes of all files, 0 if one of them is a pipe. */
static uint64_t sum_bytes(const option_texts *files) {
    uint64_t sum = 0;
    for (size_t i = 0; i < files->n; i++) {
        struct stat st;
        if (stat(files->items[i], &st) != 0 || !S_ISREG(st.st_mode))
            return 0;
        sum += (uint64_t)st.st_size;
    }
    return sum;
}

int token_reader_open(token_reader *r, const char *who, const embed_model *model,
                      const token_options *options) {
    *r = (token_reader){.who = who, .model = model, .options = options};
    embed_model_info info = {.struct_size = sizeof info};
    if (embed_model_get_info(model, &info) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    r->params = (embed_encode_params)EMBED_ENCODE_PARAMS_INIT;
    r->params.role = options->role;
    r->params.prefix = options->prefix;
    r->params.prefix_len = options->prefix ? strlen(options->prefix) : 0;
    r->params.max_tokens = options->max_tokens ? options->max_tokens : info.max_tokens;
    r->params.flags = options->strict ? EMBED_UTF8_REFUSE : 0;
    r->total_bytes = sum_bytes(&options->files);
    return EXIT_OK;
}

void token_reader_close(token_reader *r) {
    text_reader_close(&r->reader);
    free(r->pool);
    free(r->texts);
    *r = (token_reader){0};
}

static int room(void **array, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity)
        return 1;
    const size_t wanted = need + need / 2 + 1024;
    void *bigger = realloc(*array, wanted * size);
    if (!bigger)
        return 0;
    *array = bigger;
    *capacity = wanted;
    return 1;
}

static int no_memory(const token_reader *r) {
    return tool_fail(r->who, "%s: not enough memory", r->reader.name);
}

/* Ids of text i at the end of the pool. */
static int tokenize(token_reader *r, const text_piece *piece, size_t i) {
    size_t n = 0;
    embed_status st;
    do {
        if (!room((void **)&r->pool, &r->pool_capacity, r->piece.tokens + n + 1, sizeof *r->pool))
            return no_memory(r);
        st = embed_tokenize(r->model, piece->texts[i], &r->params, r->pool + r->piece.tokens,
                            r->pool_capacity - r->piece.tokens, &n);
    } while (st == EMBED_ERR_CAPACITY);
    if (st != EMBED_OK)
        return tool_fail(r->who, "%s: line %llu: %s", r->reader.name,
                         (unsigned long long)piece->lines[i], embed_last_error());
    r->texts[i].len = n;
    r->piece.tokens += n;
    return EXIT_OK;
}

/* The next piece of any file; n = 0 after the last. */
static int next_texts(token_reader *r, size_t max_texts, const text_piece **piece) {
    const option_texts *files = &r->options->files;
    for (;;) {
        if (r->reader.file) {
            const int code = text_reader_next(&r->reader, max_texts, piece);
            if (code != EXIT_OK || (*piece)->n > 0)
                return code;
            if (r->next_file >= files->n)
                return EXIT_OK;
            text_reader_close(&r->reader);
        }
        const char *path = files->n ? files->items[r->next_file] : NULL;
        r->next_file++;
        const int code = text_reader_open(
            &r->reader, r->who, path, r->options->ids ? TEXT_IDS : (text_format)r->options->format);
        if (code != EXIT_OK)
            return code;
        r->reader.allow_empty = 1;
    }
}

int token_reader_next(token_reader *r, size_t max_texts, const token_piece **out) {
    const text_piece *piece;
    *out = &r->piece;
    r->piece = (token_piece){0};
    int code = next_texts(r, max_texts, &piece);
    if (code != EXIT_OK)
        return code;
    if (!room((void **)&r->texts, &r->texts_capacity, piece->n, sizeof *r->texts))
        return no_memory(r);
    for (size_t i = 0; i < piece->n && code == EXIT_OK; i++) {
        if (r->options->ids)
            r->piece.tokens += piece->tokens[i].len;
        else
            code = tokenize(r, piece, i);
    }
    if (code != EXIT_OK)
        return code;
    if (r->options->ids) {
        memcpy(r->texts, piece->tokens, piece->n * sizeof *r->texts);
    } else { /* the pool has stopped moving */
        const int32_t *at = r->pool;
        for (size_t i = 0; i < piece->n; at += r->texts[i++].len)
            r->texts[i].ptr = at;
    }
    r->piece.n = piece->n;
    r->piece.texts = r->texts;
    r->piece.bytes = piece->bytes;
    return EXIT_OK;
}

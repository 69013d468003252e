#include "text_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "interrupt.h"
#include "third_party/yyjson/yyjson.h"
#include "tool.h"

#define PIECE_BYTES ((size_t)8 << 20)  /* a piece ends after the line that passes this */
#define PIECE_TOKENS ((size_t)2 << 20) /* the same for ready-made ids */

int text_reader_open(text_reader *r, const char *who, const char *path, text_format format) {
    *r = (text_reader){.who = who, .name = path, .format = format};
    if (!path || strcmp(path, "-") == 0) {
        r->name = "standard input";
        r->file = stdin;
        if (isatty(STDIN_FILENO))
            fprintf(stderr, "%s: reading from the terminal; end with Ctrl-D\n", who);
    } else if (!(r->file = fopen(path, "r"))) {
        return tool_fail(who, "%s: %s", path, strerror(errno));
    }
    struct stat st;
    if (fstat(fileno(r->file), &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return tool_fail(who, "%s: expected a file, found a directory", r->name);
        r->file_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    }
    if (format == TEXT_BY_NAME) {
        const size_t len = path ? strlen(path) : 0;
        r->format = len >= 6 && strcmp(path + len - 6, ".jsonl") == 0 ? TEXT_JSONL : TEXT_LINES;
    }
    return EXIT_OK;
}

void text_reader_close(text_reader *r) {
    if (r->file && r->file != stdin)
        fclose(r->file);
    free(r->input);
    free(r->bytes);
    free(r->token_pool);
    free(r->starts);
    free(r->id_starts);
    free(r->piece.texts);
    free(r->piece.ids);
    free(r->piece.tokens);
    free(r->piece.lines);
    *r = (text_reader){0};
}

/* Room for `need` elements; 0 if memory is short. */
static int grow(void **block, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity)
        return 1;
    size_t wanted = *capacity ? *capacity : 1024;
    while (wanted < need)
        wanted *= 2;
    void *bigger = realloc(*block, wanted * size);
    if (!bigger)
        return 0;
    *block = bigger;
    *capacity = wanted;
    return 1;
}

static int grow_piece(text_reader *r, size_t need) {
    text_piece *p = &r->piece;
    void **const arrays[] = {(void **)&p->texts, (void **)&p->ids,    (void **)&p->tokens,
                             (void **)&p->lines, (void **)&r->starts, (void **)&r->id_starts};
    const size_t sizes[] = {sizeof *p->texts, sizeof *p->ids,    sizeof *p->tokens,
                            sizeof *p->lines, sizeof *r->starts, sizeof *r->id_starts};
    size_t capacity = r->capacity;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        capacity = r->capacity;
        if (!grow(arrays[i], &capacity, need, sizes[i]))
            return 0;
    }
    r->capacity = capacity;
    return 1;
}

static int no_memory(const text_reader *r) {
    return tool_fail(r->who, "%s: line %llu: not enough memory", r->name,
                     (unsigned long long)r->line);
}

static int keep_bytes(text_reader *r, const char *bytes, size_t len) {
    if (!grow((void **)&r->bytes, &r->bytes_capacity, r->bytes_used + len + 1, 1))
        return 0;
    memcpy(r->bytes + r->bytes_used, bytes, len);
    r->bytes_used += len;
    return 1;
}

static int wrong_line(const text_reader *r, const char *expected, const char *found) {
    return tool_fail(r->who, "%s: line %llu: expected %s, found %s", r->name,
                     (unsigned long long)r->line, expected, found);
}

/* An id may be a string or a whole number; it is kept as text. */
static int keep_id(text_reader *r, yyjson_val *root, size_t i) {
    yyjson_val *id = yyjson_obj_get(root, "id");
    if (!id)
        id = yyjson_obj_get(root, "_id");
    char number[24];
    const char *text = yyjson_get_str(id);
    size_t len = yyjson_get_len(id);
    if (yyjson_is_int(id)) {
        len = (size_t)snprintf(number, sizeof number, yyjson_is_uint(id) ? "%llu" : "%lld",
                               (long long)yyjson_get_sint(id));
        text = number;
    }
    r->piece.ids[i] = (embed_text){text ? "" : NULL, text ? len : 0};
    r->id_starts[i] = r->bytes_used;
    return !text || keep_bytes(r, text, len);
}

static int keep_object(text_reader *r, yyjson_val *root, size_t i) {
    yyjson_val *text = yyjson_obj_get(root, "text");
    if (!yyjson_is_str(text))
        return wrong_line(r, "{\"text\": \"...\"}",
                          !yyjson_is_obj(root) ? yyjson_get_type_desc(root)
                          : text               ? "a \"text\" that is no string"
                                               : "an object without \"text\"");
    yyjson_val *title = r->with_title ? yyjson_obj_get(root, "title") : NULL;
    if (!keep_id(r, root, i))
        return no_memory(r);
    r->starts[i] = r->bytes_used;
    if (yyjson_is_str(title) && yyjson_get_len(title) > 0 &&
        (!keep_bytes(r, yyjson_get_str(title), yyjson_get_len(title)) || !keep_bytes(r, " ", 1)))
        return no_memory(r);
    if (!keep_bytes(r, yyjson_get_str(text), yyjson_get_len(text)))
        return no_memory(r);
    r->piece.texts[i].len = r->bytes_used - r->starts[i];
    return EXIT_OK;
}

static int keep_tokens(text_reader *r, yyjson_val *root, size_t i) {
    if (yyjson_arr_size(root) == 0 && !(r->allow_empty && yyjson_is_arr(root)))
        return wrong_line(r, "an array of token ids such as [101, 7592, 102]",
                          yyjson_is_arr(root) ? "an empty one" : yyjson_get_type_desc(root));
    r->starts[i] = r->tokens_used;
    if (!grow((void **)&r->token_pool, &r->tokens_capacity,
              r->tokens_used + yyjson_arr_size(root) + 1, sizeof *r->token_pool))
        return no_memory(r);
    size_t at, n;
    yyjson_val *value;
    yyjson_arr_foreach(root, at, n, value) {
        if (!yyjson_is_uint(value) || yyjson_get_uint(value) > INT32_MAX)
            return wrong_line(r, "token ids that are whole numbers from 0 on",
                              yyjson_is_num(value) ? "another number"
                                                   : yyjson_get_type_desc(value));
        r->token_pool[r->tokens_used++] = (int32_t)yyjson_get_uint(value);
    }
    r->piece.tokens[i].len = r->tokens_used - r->starts[i];
    return EXIT_OK;
}

static int keep_json(text_reader *r, char *line, size_t len, size_t i) {
    yyjson_read_err err;
    yyjson_doc *doc = yyjson_read_opts(line, len, 0, NULL, &err);
    if (!doc)
        return tool_fail(r->who, "%s: line %llu: not JSON: %s at byte %zu", r->name,
                         (unsigned long long)r->line, err.msg, err.pos);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const int code = r->format == TEXT_IDS ? keep_tokens(r, root, i) : keep_object(r, root, i);
    yyjson_doc_free(doc);
    return code;
}

static int keep_line(text_reader *r, char *line, size_t len) {
    const size_t i = r->piece.n;
    if (r->format != TEXT_LINES && strspn(line, " \t") == len)
        return EXIT_OK;
    if (!grow_piece(r, i + 1))
        return no_memory(r);
    r->piece.lines[i] = r->line;
    r->piece.ids[i] = (embed_text){NULL, 0};
    r->piece.texts[i] = (embed_text){NULL, len};
    r->starts[i] = r->bytes_used;
    if (r->format != TEXT_LINES) {
        const int code = keep_json(r, line, len, i);
        if (code != EXIT_OK)
            return code;
    } else if (!keep_bytes(r, line, len)) {
        return no_memory(r);
    }
    r->piece.n++;
    return EXIT_OK;
}

/* Buffers have stopped moving: turn offsets into pointers. */
static void set_pointers(text_reader *r) {
    for (size_t i = 0; i < r->piece.n; i++) {
        if (r->format == TEXT_IDS)
            r->piece.tokens[i].ptr = r->token_pool + r->starts[i];
        else
            r->piece.texts[i].ptr = r->bytes + r->starts[i];
        if (r->piece.ids[i].ptr)
            r->piece.ids[i].ptr = r->bytes + r->id_starts[i];
    }
}

int text_reader_next(text_reader *r, size_t max_texts, const text_piece **piece) {
    r->piece.n = 0;
    r->piece.bytes = 0;
    r->bytes_used = r->tokens_used = 0;
    *piece = &r->piece;
    while (r->piece.n < max_texts && r->bytes_used < PIECE_BYTES && r->tokens_used < PIECE_TOKENS) {
        errno = 0;
        const ssize_t got = getline(&r->input, &r->input_capacity, r->file);
        if (interrupt_seen())
            return EXIT_FAILED;
        if (got < 0 && (ferror(r->file) || errno == ENOMEM))
            return tool_fail(r->who, "%s: line %llu: %s", r->name, (unsigned long long)r->line + 1,
                             strerror(errno));
        if (got < 0)
            break;
        char *line = r->input;
        size_t len = (size_t)got;
        r->line++;
        r->piece.bytes += len;
        if (len > 0 && line[len - 1] == '\n' && --len > 0 && line[len - 1] == '\r')
            len--;
        line[len] = '\0';
        if (r->line == 1 && len >= 3 &&
            memcmp(line, "\xEF\xBB\xBF", 3) == 0) { /* byte order mark */
            line += 3;
            len -= 3;
        }
        const int code = keep_line(r, line, len);
        if (code != EXIT_OK)
            return code;
    }
    set_pointers(r);
    return EXIT_OK;
}

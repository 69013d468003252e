/* embed tokenize: token ids of texts, one JSON array a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text_reader.h"
#include "third_party/yyjson/yyjson.h"
#include "tool.h"

#define PIECE_TEXTS 4096
#define FIRST_IDS 4096

typedef struct id_buffer {
    int32_t *ids;
    size_t capacity;
} id_buffer;

/* Ids of one text, in a buffer that grows to the longest. */
static embed_status tokenize(const embed_model *model, embed_text text,
                             const embed_encode_params *params, id_buffer *buffer, size_t *n) {
    embed_status st = embed_tokenize(model, text, params, buffer->ids, buffer->capacity, n);
    if (st != EMBED_ERR_CAPACITY)
        return st;
    int32_t *bigger = realloc(buffer->ids, 2 * *n * sizeof *bigger);
    if (!bigger)
        return st; /* its message names the need */
    buffer->ids = bigger;
    buffer->capacity = 2 * *n;
    return embed_tokenize(model, text, params, buffer->ids, buffer->capacity, n);
}

static int print_ids(const char *who, const int32_t *ids, size_t n) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(doc, yyjson_mut_arr_with_sint32(doc, ids, n));
    char *line = yyjson_mut_write(doc, 0, NULL);
    if (line)
        puts(line);
    free(line);
    yyjson_mut_doc_free(doc);
    return line ? EXIT_OK : tool_fail(who, "not enough memory");
}

static int run(const char *who, const embed_model *model, const embed_encode_params *params,
               text_reader *reader, int counts) {
    id_buffer buffer = {malloc(FIRST_IDS * sizeof(int32_t)), FIRST_IDS};
    const text_piece *piece = NULL;
    int code = buffer.ids ? EXIT_OK : tool_fail(who, "not enough memory");
    while (code == EXIT_OK && (code = text_reader_next(reader, PIECE_TEXTS, &piece)) == EXIT_OK &&
           piece->n > 0) {
        for (size_t i = 0; i < piece->n && code == EXIT_OK; i++) {
            size_t n;
            if (tokenize(model, piece->texts[i], params, &buffer, &n) != EMBED_OK)
                code = tool_fail(who, "%s: line %llu: %s", reader->name,
                                 (unsigned long long)piece->lines[i], embed_last_error());
            else if (counts)
                printf("%zu\n", n);
            else
                code = print_ids(who, buffer.ids, n);
        }
    }
    free(buffer.ids);
    const int flushed = tool_flush_stdout(who);
    return code != EXIT_OK ? code : flushed;
}

int cmd_tokenize(int argc, char **argv) {
    const char *dir = NULL, *input = NULL, *prefix = NULL;
    int32_t counts = 0, bare = 0, strict = 0, max_tokens = 0, format = TEXT_BY_NAME;
    int32_t role = EMBED_ROLE_NONE;
    int first;
    const option_choice formats[] = {{"txt", TEXT_LINES}, {"jsonl", TEXT_JSONL}, {NULL, 0}};
    const command cmd = {
        "tokenize",
        "-m DIR [OPTION]... [-i FILE]",
        "Prints the token ids of each text as one JSON array a line.",
        "  embed tokenize -m all-MiniLM-L6-v2 -i texts.txt > ids.jsonl\n"
        "  echo 'how many tokens?' | embed tokenize -m all-MiniLM-L6-v2 --counts\n",
        0,
        0};
    const option_spec table[] = {OPTION_INPUT(input),
                                 OPTION_INPUT_FORMAT(format, formats),
                                 OPTION_STRICT(strict),
                                 OPTION_MODEL(dir),
                                 OPTION_ROLE(role, "none"),
                                 OPTION_PREFIX(prefix),
                                 OPTION_MAX_TOKENS(max_tokens, "cut texts to N tokens (no limit)"),
                                 {"model", "no-special", NULL,
                                  "leave out special tokens such as [CLS]", &bare, NULL,
                                  OPTION_FLAG, 0, 0, 0},
                                 {"output", "counts", NULL, "print only the number of tokens",
                                  &counts, NULL, OPTION_FLAG, 0, 0, 0},
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    params.role = role;
    params.prefix = prefix;
    params.prefix_len = prefix ? strlen(prefix) : 0;
    params.max_tokens = max_tokens;
    params.flags = (bare ? EMBED_NO_SPECIAL_TOKENS : 0) | (strict ? EMBED_UTF8_REFUSE : 0);
    embed_model *model;
    int code = tool_open_model(argv[0], dir, EMBED_ISA_AUTO, &model);
    if (code != EXIT_OK)
        return code;
    text_reader reader;
    code = text_reader_open(&reader, argv[0], input, (text_format)format);
    if (code == EXIT_OK)
        code = run(argv[0], model, &params, &reader, counts);
    text_reader_close(&reader);
    embed_model_free(model);
    return code;
}

/* Special tokens of every post-processor, whole and cut to one token of text. */
#include "tokenizer/tok_case.h"

#define MODEL                                                                                      \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","        \
    "\"max_input_chars_per_word\":10,\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":2,\"c\":3}}"

static const struct {
    const char *post;
    int32_t ids[8];
    size_t n;
    int32_t cut[8]; /* max_tokens = special tokens + 1 */
} cases[] = {
    {NULL, {1, 2}, 2, {1}},
    {"{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"X\", "
     "\"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"SpecialToken\": "
     "{\"id\": \"Y\", \"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": "
     "0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 0}}], \"special_tokens\": {\"X\": {\"id\": "
     "\"X\", \"ids\": [10, 11], \"tokens\": [\"x\", \"y\"]}, \"Y\": {\"id\": \"Y\", \"ids\": [12], "
     "\"tokens\": [\"z\"]}}}",
     {10, 11, 1, 2, 12},
     5,
     {10, 11, 1, 12}},
    {"{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": "
     "0}}, {\"SpecialToken\": {\"id\": \"Y\", \"type_id\": 0}}, {\"SpecialToken\": {\"id\": \"X\", "
     "\"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
     "{\"Sequence\": {\"id\": \"B\", \"type_id\": 0}}], \"special_tokens\": {\"X\": {\"id\": "
     "\"X\", \"ids\": [10, 11], \"tokens\": [\"x\", \"y\"]}, \"Y\": {\"id\": \"Y\", \"ids\": [12], "
     "\"tokens\": [\"z\"]}}}",
     {1, 2, 12, 10, 11},
     5,
     {1, 12, 10, 11}},
    {"{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": "
     "0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": "
     "\"B\", \"type_id\": 0}}], \"special_tokens\": {\"X\": {\"id\": \"X\", \"ids\": [10, 11], "
     "\"tokens\": [\"x\", \"y\"]}, \"Y\": {\"id\": \"Y\", \"ids\": [12], \"tokens\": [\"z\"]}}}",
     {1, 2},
     2,
     {1}},
    {"{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"Y\", "
     "\"type_id\": 0}}, {\"SpecialToken\": {\"id\": \"X\", \"type_id\": 0}}, {\"Sequence\": "
     "{\"id\": \"A\", \"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": "
     "0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 0}}], \"special_tokens\": {\"X\": {\"id\": "
     "\"X\", \"ids\": [10, 11], \"tokens\": [\"x\", \"y\"]}, \"Y\": {\"id\": \"Y\", \"ids\": [12], "
     "\"tokens\": [\"z\"]}}}",
     {12, 10, 11, 1, 2},
     5,
     {12, 10, 11, 1}},
    {"{\"type\": \"BertProcessing\", \"sep\": [\"s\", 5], \"cls\": [\"c\", 6]}",
     {6, 1, 2, 5},
     4,
     {6, 1, 5}},
    {"{\"type\": \"RobertaProcessing\", \"sep\": [\"s\", 7], \"cls\": [\"c\", 8], "
     "\"trim_offsets\": true, \"add_prefix_space\": false}",
     {8, 1, 2, 7},
     4,
     {8, 1, 7}},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": "
     "true}",
     {1, 2},
     2,
     {1}},
    {"{\"type\": \"Sequence\", \"processors\": []}", {1, 2}, 2, {1}},
    {"{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\", \"add_prefix_space\": "
     "true, \"trim_offsets\": true, \"use_regex\": true}, {\"type\": \"TemplateProcessing\", "
     "\"single\": [{\"SpecialToken\": {\"id\": \"Y\", \"type_id\": 0}}, {\"Sequence\": {\"id\": "
     "\"A\", \"type_id\": 0}}, {\"SpecialToken\": {\"id\": \"Y\", \"type_id\": 0}}], \"pair\": "
     "[{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", "
     "\"type_id\": 0}}], \"special_tokens\": {\"X\": {\"id\": \"X\", \"ids\": [10, 11], "
     "\"tokens\": [\"x\", \"y\"]}, \"Y\": {\"id\": \"Y\", \"ids\": [12], \"tokens\": [\"z\"]}}}]}",
     {12, 1, 2, 12},
     4,
     {12, 1, 12}},
    {"{\"type\": \"Sequence\", \"processors\": [{\"type\": \"BertProcessing\", \"sep\": [\"s\", "
     "5], \"cls\": [\"c\", 6]}, {\"type\": \"RobertaProcessing\", \"sep\": [\"s\", 7], \"cls\": "
     "[\"c\", 8], \"trim_offsets\": true, \"add_prefix_space\": false}]}",
     {8, 6, 1, 2, 5, 7},
     6,
     {8, 6, 1, 5, 7}},
    {"{\"type\": \"Sequence\", \"processors\": [{\"type\": \"BertProcessing\", \"sep\": [\"s\", "
     "5], \"cls\": [\"c\", 6]}, {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
     "{\"id\": \"X\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], "
     "\"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", "
     "\"type_id\": 0}}], \"special_tokens\": {\"X\": {\"id\": \"X\", \"ids\": [10, 11], "
     "\"tokens\": [\"x\", \"y\"]}, \"Y\": {\"id\": \"Y\", \"ids\": [12], \"tokens\": [\"z\"]}}}]}",
     {10, 11, 6, 1, 2, 5},
     6,
     {10, 11, 6, 1, 5}},
};

static void test_ids(void **state) {
    (void)state;
    const emb_env env = test_env();
    const embed_text text = {"a b", 3};
    emb_tok_scratch *scratch;
    assert_int_equal(emb_tok_scratch_create(&scratch, &env), EMBED_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_tokenizer *tok =
            tok_make(NULL, NULL, "{\"type\":\"WhitespaceSplit\"}", cases[i].post, MODEL);
        const int32_t *ids;
        size_t n;
        int32_t truncated;
        assert_int_equal(emb_tokenizer_encode(tok, scratch, text, NULL, &ids, &n, &truncated),
                         EMBED_OK);
        tok_check_ids(cases[i].post, ids, n, cases[i].ids, cases[i].n);
        const int32_t special = emb_tokenizer_special_count(tok);
        assert_int_equal(special, cases[i].n - 2);
        assert_int_equal(emb_tokenizer_ends_special(tok), cases[i].ids[cases[i].n - 1] != 2);
        emb_tok_options options = {{NULL, 0}, special + 1, 0};
        assert_int_equal(emb_tokenizer_encode(tok, scratch, text, &options, &ids, &n, &truncated),
                         EMBED_OK);
        assert_int_equal(truncated, 1);
        tok_check_ids(cases[i].post, ids, n, cases[i].cut, (size_t)special + 1);
        options = (emb_tok_options){{NULL, 0}, 0, EMBED_NO_SPECIAL_TOKENS};
        assert_int_equal(emb_tokenizer_encode(tok, scratch, text, &options, &ids, &n, &truncated),
                         EMBED_OK);
        tok_check_ids(cases[i].post, ids, n, (const int32_t[]){1, 2}, 2);
        emb_tokenizer_free(tok);
    }
    emb_tok_scratch_free(scratch);
}

#define TEMPLATE(single, special)                                                                  \
    "{\"type\":\"TemplateProcessing\",\"single\":" single                                          \
    ",\"pair\":[],\"special_tokens\":" special "}"
#define A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define X "{\"SpecialToken\":{\"id\":\"X\",\"type_id\":0}}"

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *post, *message;
        embed_status status;
    } wrong[] = {
        {"[]", "post_processor: expected an object", EMBED_ERR_FORMAT},
        {"{\"type\":\"Nothing\"}", "post_processor.type: expected BertProcessing, ",
         EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"BertProcessing\",\"sep\":[\"s\",1]}",
         "post_processor.cls: expected an array, found nothing", EMBED_ERR_FORMAT},
        {"{\"type\":\"BertProcessing\",\"sep\":[1,\"s\"],\"cls\":[\"c\",1]}",
         "post_processor.sep: expected [token, id]", EMBED_ERR_FORMAT},
        {"{\"type\":\"RobertaProcessing\",\"sep\":[\"s\",-1],\"cls\":[\"c\",1]}",
         "post_processor.sep: expected [token, id]", EMBED_ERR_FORMAT},
        {"{\"type\":\"Sequence\"}", "post_processor.processors: expected an array",
         EMBED_ERR_FORMAT},
        {TEMPLATE("[" X "]", "{\"X\":{\"ids\":[1]}}"),
         "post_processor.single: expected the sequence A, once", EMBED_ERR_UNSUPPORTED},
        {TEMPLATE("[" A "," A "]", "{}"), "single[1].Sequence.id: expected the sequence A, once",
         EMBED_ERR_UNSUPPORTED},
        {TEMPLATE("[{\"Sequence\":{\"id\":\"B\"}}]", "{}"),
         "single[0].Sequence.id: expected the sequence A, once", EMBED_ERR_UNSUPPORTED},
        {TEMPLATE("[" X "," A "]", "{}"), "special_tokens.X: expected an object, found nothing",
         EMBED_ERR_FORMAT},
        {TEMPLATE("[" X "," A "]", "{\"X\":{}}"), "special_tokens.X.ids: expected an array",
         EMBED_ERR_FORMAT},
        {TEMPLATE("[" X "," A "]", "{\"X\":{\"ids\":[4294967296]}}"),
         "special_tokens.X.ids[0]: expected a token id", EMBED_ERR_FORMAT},
        {TEMPLATE("[" X "," A "]", "{\"X\":{\"ids\":[-1]}}"),
         "special_tokens.X.ids[0]: expected a token id", EMBED_ERR_FORMAT},
        {TEMPLATE("[7," A "]", "{}"), "single[0]: expected {\"SpecialToken\"", EMBED_ERR_FORMAT},
        {"{\"type\":\"Sequence\",\"processors\":[" TEMPLATE(
             "[" X "," A "]",
             "{\"X\":{\"ids\":[1]}}") ",{\"type\":\"BertProcessing\",\"sep\":[\"s\",1],"
                                      "\"cls\":[\"c\",2]}]}",
         "processors[1]: expected this before the TemplateProcessing", EMBED_ERR_UNSUPPORTED},
    };
    const emb_env env = test_env();
    emb_tokenizer *tok;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *json = tok_json(NULL, NULL, NULL, wrong[i].post, MODEL);
        const embed_status st = tok_open(&tok, &env, json);
        free(json);
        if (st != wrong[i].status || tok != NULL ||
            strstr(emb_fail_message(), wrong[i].message) == NULL)
            fail_msg("%s: %s", wrong[i].post, emb_fail_message());
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ids), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* fuzz_config: bytes as the JSON files of a checkpoint, parted by 0x1e in the order of `names`; an
 * empty part is a file that is not there. */
#include "fuzz/fuzz.h"

#include <sys/stat.h>
#include <unistd.h>

#include "model/config.h"

static const char *const names[] = {"config.json",
                                    "modules.json",
                                    "1_Pooling/config.json",
                                    "2_Dense/config.json",
                                    "sentence_bert_config.json",
                                    "config_sentence_transformers.json",
                                    "tokenizer_config.json"};
#define NAMES (sizeof names / sizeof *names)

static char dir[] = "/tmp/fuzz_config_XXXXXX";

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void clean_up(void) {
    for (size_t i = 0; i < NAMES; i++)
        unlink(path_of(names[i]));
    rmdir(path_of("1_Pooling"));
    rmdir(path_of("2_Dense"));
    rmdir(dir);
}

static void write_part(const char *name, const uint8_t *data, size_t size) {
    unlink(path_of(name));
    if (!size)
        return;
    FILE *f = fopen(path_of(name), "wb");
    FUZZ_CHECK(f && fwrite(data, 1, size, f) == size);
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int made;
    const emb_env env = fuzz_env();
    emb_config config;
    if (!made++) {
        FUZZ_CHECK(mkdtemp(dir) && !mkdir(path_of("1_Pooling"), 0700) &&
                   !mkdir(path_of("2_Dense"), 0700));
        atexit(clean_up);
    }
    for (size_t i = 0; i < NAMES; i++) {
        const uint8_t *end = size ? memchr(data, 0x1e, size) : NULL;
        const size_t len = end ? (size_t)(end - data) : size;
        write_part(names[i], data, len);
        data += end ? len + 1 : len;
        size -= end ? len + 1 : len;
    }
    const embed_status st = emb_config_read(&config, &env, dir);
    fuzz_check_status(st);
    if (st != EMBED_OK)
        return 0;
    const emb_encoder_config *e = &config.encoder;
    const emb_pipeline_config *p = &config.pipeline;
    FUZZ_CHECK(e->arch >= EMB_ARCH_NOMIC_BERT && e->arch <= EMB_ARCH_XLM_ROBERTA);
    FUZZ_CHECK(e->hidden > 0 && e->layers > 0 && e->heads > 0 && e->inner > 0 && e->vocab > 0);
    FUZZ_CHECK((int64_t)e->heads * e->head_dim == e->hidden && e->rotary_dim <= e->head_dim);
    FUZZ_CHECK(e->eps >= 0 && e->max_positions > 0 && p->max_tokens > 0);
    FUZZ_CHECK(!e->moe_every || (e->top_k > 0 && e->top_k <= e->experts));
    FUZZ_CHECK(p->n_pooling > 0 && p->n_pooling <= 6 && p->n_dense <= EMB_MAX_DENSE);
    FUZZ_CHECK(p->default_prompt >= -1 && p->default_prompt < p->n_prompts);
    emb_config_clear(&config, &env);
    return 0;
}

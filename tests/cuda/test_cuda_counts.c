/* Kernels that are launched for more rows or texts than there are: *count says how many, and the
 * result is that of a launch for these alone. Inputs and outputs end where those end, so that a
 * read or write beyond is seen. */
#include "support/test.h"

#include "cuda/cuda_case.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/embed_lookup/embed_lookup_cuda.h"
#include "kernels/gemm/gemm_cuda.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/pool/pool_cuda.h"
#include "kernels/quantize/quantize_cuda.h"
#include "kernels/router_topk/router_topk_cuda.h"

enum { HIDDEN = 32, HEADS = 2, EXPERTS = 3, CHOICES = 2, TOKENS = 21, TEXTS = 3 };

static const int32_t offsets[TEXTS + 1] = {0, 3, 3, TOKENS};
/* What launches are made for: the rows there are, the next bucket, and much more. */
static const int64_t rooms[] = {TOKENS, TOKENS + 4, 8 * TOKENS}, text_rooms[] = {TEXTS, 4, 70};
#define ROOMS (sizeof rooms / sizeof *rooms)

static void *count_of(int32_t n) {
    return cuda_copy(&n, sizeof n);
}

/* y of every room is that of the first, which is launched without a count. */
#define IN_EVERY_ROOM(name, args, out, bytes, room)                                                \
    do {                                                                                           \
        void *first_ = NULL;                                                                       \
        for (size_t i_ = 0; i_ < ROOMS; i_++) {                                                    \
            room(&args, i_);                                                                       \
            args.out = cuda_output(bytes);                                                         \
            emb_emulation_seed(i_);                                                                \
            cuda_worked(#name, emb_cuda_##name(cuda_exec(), &args));                               \
            if (first_ != NULL)                                                                    \
                cuda_same(#name " of a larger launch", first_, args.out, bytes);                   \
            else                                                                                   \
                first_ = args.out;                                                                 \
        }                                                                                          \
    } while (0)

static void token_room(const int32_t **count, int64_t *tokens, size_t i) {
    *count = i > 0 ? count_of(TOKENS) : NULL;
    *tokens = rooms[i];
}

static void text_room(const int32_t **count, int64_t *texts, size_t i) {
    *count = i > 0 ? count_of(TEXTS) : NULL;
    *texts = text_rooms[i];
}

#define TOKEN_ROOM(args, i) token_room(&(args)->count, &(args)->tokens, i)
#define TEXT_ROOM(args, i) text_room(&(args)->count, &(args)->texts, i)
#define ROW_ROOM(args, i) text_room(&(args)->count, &(args)->rows, i)
#define GEMM_ROOM(args, i) token_room(&(args)->count, &(args)->m, i)
#define ATTENTION_ROOM(args, i)                                                                    \
    do {                                                                                           \
        TEXT_ROOM(args, i);                                                                        \
        (args)->tokens = rooms[i];                                                                 \
    } while (0)

static void texts_that_are_there(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d];
        const size_t size = cuda_size(dtype), states = TOKENS * HIDDEN;
        uint64_t seed = 5;
        for (int32_t dim = 16; dim <= 32; dim += 16) { /* without and with tensor cores */
            emb_cuda_attention_args a = {.offsets = cuda_copy(offsets, sizeof offsets),
                                         .heads = HEADS,
                                         .head_dim = dim,
                                         .dtype = dtype,
                                         .scale = 0.2f};
            a.qkv = cuda_normals(&seed, TOKENS * 3 * HEADS * (size_t)dim, 1.0, dtype, NULL);
            IN_EVERY_ROOM(attention, a, out, TOKENS * HEADS * (size_t)dim * size, ATTENTION_ROOM);
        }
        const int32_t skip[TEXTS] = {1, 0, 18};
        emb_cuda_pool_args p = {.x = cuda_normals(&seed, states, 1.0, dtype, NULL),
                                .offsets = cuda_copy(offsets, sizeof offsets),
                                .skip = cuda_copy(skip, sizeof skip),
                                .dim = HIDDEN,
                                .ldo = HIDDEN,
                                .modes = EMBED_POOL_MEAN,
                                .dtype = dtype};
        IN_EVERY_ROOM(pool, p, out, TEXTS * HIDDEN * sizeof(float), TEXT_ROOM);
        cuda_case_end();
    }
    uint64_t seed = 6;
    emb_cuda_quantize_args q = {.x = cuda_normals(&seed, TEXTS * HIDDEN, 1.0, EMBED_F32, NULL),
                                .dim = HIDDEN,
                                .ldx = HIDDEN,
                                .out_stride = HIDDEN * sizeof(float),
                                .output = EMBED_F32,
                                .normalize = 1};
    IN_EVERY_ROOM(quantize, q, out, TEXTS * HIDDEN * sizeof(float), ROW_ROOM);
    cuda_case_end();
}

static void tokens_that_are_there(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d];
        const size_t states = TOKENS * HIDDEN, bytes = states * cuda_size(dtype);
        uint64_t seed = 7;
        int32_t ids[TOKENS];
        for (int i = 0; i < TOKENS; i++)
            ids[i] = i * 5 % 7;
        emb_cuda_embed_lookup_args e = {.ids = cuda_copy(ids, sizeof ids),
                                        .positions = cuda_copy(ids, sizeof ids),
                                        .word = cuda_normals(&seed, 7 * HIDDEN, 1.0, dtype, NULL),
                                        .dim = HIDDEN,
                                        .dtype = dtype};
        e.position = e.word;
        IN_EVERY_ROOM(embed_lookup, e, y, bytes, TOKEN_ROOM);
        emb_cuda_layernorm_args n = {
            .x = cuda_normals(&seed, states, 1.0, dtype, NULL),
            .gamma = cuda_normals(&seed, HIDDEN, 1.0, EMBED_F32, NULL),
            .router = cuda_normals(&seed, EXPERTS * HIDDEN, 1.0, EMBED_F32, NULL),
            .logits = cuda_output(TOKENS * EXPERTS * sizeof(float)),
            .dim = HIDDEN,
            .dtype = dtype,
            .experts = EXPERTS,
            .eps = 1e-5f};
        IN_EVERY_ROOM(layernorm, n, y, bytes, TOKEN_ROOM);
        emb_cuda_gemm_args g = {.x = n.x,
                                .w = cuda_normals(&seed, 40 * HIDDEN, 1.0, dtype, NULL),
                                .n = 40,
                                .k = HIDDEN,
                                .ldx = HIDDEN,
                                .ldy = 40,
                                .groups = 1,
                                .dtype = dtype};
        IN_EVERY_ROOM(gemm, g, y, TOKENS * 40 * cuda_size(dtype), GEMM_ROOM);
        int32_t slots[TOKENS * CHOICES];
        for (int i = 0; i < TOKENS * CHOICES; i++)
            slots[i] = i * 5 % (TOKENS * CHOICES);
        emb_cuda_moe_combine_args c = {
            .o = cuda_normals(&seed, CHOICES * states, 1.0, dtype, NULL),
            .x = n.x,
            .gate = cuda_normals(&seed, TOKENS * CHOICES, 1.0, EMBED_F32, NULL),
            .slot = cuda_copy(slots, sizeof slots),
            .dim = HIDDEN,
            .dtype = dtype,
            .top_k = CHOICES};
        IN_EVERY_ROOM(moe_combine, c, y, bytes, TOKEN_ROOM);
        cuda_case_end();
    }
}

/* Rows x[x_rows[t]] are the bits of a launch for copies of them, logits too. */
static void rows_taken_by_a_norm(void **state) {
    static const int32_t rows[] = {20, 0, 7, 7};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d];
        const size_t row = HIDDEN * cuda_size(dtype), bytes = 4 * row;
        uint64_t seed = 9;
        char copies[4 * HIDDEN * sizeof(float)];
        emb_cuda_layernorm_args a = {
            .x = cuda_normals(&seed, TOKENS * HIDDEN, 1.0, dtype, NULL),
            .r = cuda_normals(&seed, 4 * HIDDEN, 1.0, dtype, NULL),
            .router = cuda_normals(&seed, EXPERTS * HIDDEN, 1.0, EMBED_F32, NULL),
            .y = cuda_output(bytes),
            .logits = cuda_output(4 * EXPERTS * sizeof(float)),
            .x_rows = cuda_copy(rows, sizeof rows),
            .tokens = 4,
            .dim = HIDDEN,
            .dtype = dtype,
            .experts = EXPERTS,
            .eps = 1e-5f};
        for (int norm = 0; norm < 2; norm++) {
            emb_cuda_layernorm_args b = a;
            for (int i = 0; i < 4; i++)
                memcpy(copies + (size_t)i * row, (const char *)a.x + (size_t)rows[i] * row, row);
            b.x = cuda_copy(copies, bytes);
            b.x_rows = NULL;
            b.y = cuda_output(bytes);
            b.logits = cuda_output(4 * EXPERTS * sizeof(float));
            cuda_worked("taken", emb_cuda_layernorm(cuda_exec(), &a));
            cuda_worked("copied", emb_cuda_layernorm(cuda_exec(), &b));
            cuda_same("rows", a.y, b.y, bytes);
            cuda_same("logits", a.logits, b.logits, 4 * EXPERTS * sizeof(float));
            a.gamma = cuda_normals(&seed, HIDDEN, 1.0, EMBED_F32, NULL);
        }
        cuda_case_end();
    }
}

/* One row of each text is what CLS or the last would take from all. */
static void rows_pooled_before(void **state) {
    static const int32_t skip[TEXTS] = {0, 0, 2}, cls[TEXTS] = {0, 3, 5}, last[TEXTS] = {2, 2, 20};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d];
        const size_t row = HIDDEN * cuda_size(dtype), bytes = TEXTS * HIDDEN * sizeof(float);
        uint64_t seed = 10;
        const char *x = cuda_normals(&seed, TOKENS * HIDDEN, 1.0, dtype, NULL);
        for (int mode = EMBED_POOL_CLS; mode <= EMBED_POOL_LAST;
             mode += EMBED_POOL_LAST - EMBED_POOL_CLS) {
            char rows[TEXTS * HIDDEN * sizeof(float)];
            emb_cuda_pool_args a = {.x = x,
                                    .offsets = cuda_copy(offsets, sizeof offsets),
                                    .skip = cuda_copy(skip, sizeof skip),
                                    .out = cuda_output(bytes),
                                    .texts = TEXTS,
                                    .dim = HIDDEN,
                                    .ldo = HIDDEN,
                                    .modes = mode,
                                    .dtype = dtype};
            emb_cuda_pool_args b = a;
            for (int i = 0; i < TEXTS; i++)
                memcpy(rows + (size_t)i * row,
                       x + (size_t)(mode == EMBED_POOL_CLS ? cls : last)[i] * row, row);
            b.x = cuda_copy(rows, TEXTS * row);
            b.gathered = 1;
            b.out = cuda_output(bytes);
            cuda_worked("all", emb_cuda_pool(cuda_exec(), &a));
            cuda_worked("gathered", emb_cuda_pool(cuda_exec(), &b));
            cuda_same("pooled rows", a.out, b.out, bytes);
            b.modes |= EMBED_POOL_MEAN;
            assert_int_equal(emb_cuda_pool(cuda_exec(), &b), EMBED_ERR_INTERNAL);
        }
        cuda_case_end();
    }
}

/* Pairs, offsets and statistics of a launch for more tokens are those of the tokens there are. */
static void routed_tokens_that_are_there(void **state) {
    enum { T = 150, PAIRS = T * CHOICES };
    (void)state;
    const int64_t room[] = {T, T + 30, 700};
    uint64_t seed = 11;
    const float *logits = cuda_normals(&seed, T * EXPERTS, 1.0, EMBED_F32, NULL);
    emb_cuda_router_topk_args first = {.logits = NULL};
    for (size_t i = 0; i < 3; i++) {
        uint64_t tokens[EXPERTS] = {0};
        double gates[EXPERTS] = {0};
        const emb_cuda_router_topk_args a = {
            .logits = logits,
            .gate = cuda_output(PAIRS * sizeof(float)),
            .expert = cuda_output(PAIRS * sizeof(int32_t)),
            .slot = cuda_output(PAIRS * sizeof(int32_t)),
            .rows = cuda_output(PAIRS * sizeof(int32_t)),
            .offset = cuda_output((EXPERTS + 1) * sizeof(int32_t)),
            .expert_tokens = cuda_copy(tokens, sizeof tokens),
            .gate_sum = cuda_copy(gates, sizeof gates),
            .scratch = cuda_output(emb_cuda_router_topk_scratch_bytes(room[i], EXPERTS)),
            .count = i > 0 ? count_of(T) : NULL,
            .tokens = room[i],
            .experts = EXPERTS,
            .top_k = CHOICES};
        emb_emulation_seed(i);
        cuda_worked("router", emb_cuda_router_topk(cuda_exec(), &a));
        if (i == 0) {
            first = a;
            continue;
        }
        cuda_same("gates", first.gate, a.gate, PAIRS * sizeof(float));
        cuda_same("slots", first.slot, a.slot, PAIRS * sizeof(int32_t));
        cuda_same("rows", first.rows, a.rows, PAIRS * sizeof(int32_t));
        cuda_same("offsets", first.offset, a.offset, (EXPERTS + 1) * sizeof(int32_t));
        cuda_same("tokens", first.expert_tokens, a.expert_tokens, sizeof tokens);
        cuda_same("sums of gates", first.gate_sum, a.gate_sum, sizeof gates);
    }
    assert_int_equal(first.offset[EXPERTS], PAIRS);
    cuda_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_are_there),         cmocka_unit_test(tokens_that_are_there),
        cmocka_unit_test(rows_taken_by_a_norm),         cmocka_unit_test(rows_pooled_before),
        cmocka_unit_test(routed_tokens_that_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* gpu_remote: the launchers as tests/cuda calls them, emb_cuda_<op>(exec, args) with addresses of
 * cuda_case, on a device with memory of its own: the sources there are compiled once more with
 * emb_cuda_<op> renamed to gpu_remote_<op>. Every block of the running case is copied to an
 * allocation of its very size, where a checker of memory sees what lies beyond, and back after the
 * kernels; what else an argument points to is a mistake in the test. */
#include "cuda/cuda_case.h"
#include "gpu/gpu_memory.h"

#include "kernels/activation/activation_cuda.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/embed_lookup/embed_lookup_cuda.h"
#include "kernels/gemm/gemm_cuda.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/moe_exchange/moe_exchange_cuda.h"
#include "kernels/pool/pool_cuda.h"
#include "kernels/quantize/quantize_cuda.h"
#include "kernels/router_topk/router_topk_cuda.h"
#include "kernels/row_copy/row_copy_cuda.h"

enum { MOST = 4096 };

static void *mirror[MOST];

static void worked(const char *what, const char *error) {
    if (error != NULL)
        fail_msg("%s: %s", what, error);
}

/* The address on the device of what lies at a host address; 0 if it is in no block. */
static uint64_t translate(uint64_t at) {
    for (size_t i = cuda_blocks(); i-- > 0;) {
        size_t bytes;
        const uint64_t start = (uint64_t)(uintptr_t)cuda_block(i, &bytes);
        if (at >= start && at <= start + bytes)
            return (uint64_t)(uintptr_t)mirror[i] + (at - start);
    }
    return 0;
}

/* Programs, heaps, libraries and stacks lie there under Linux; pairs of small numbers and floats in
 * the arguments do not look so. */
static int is_address(uint64_t word) {
    const uint64_t top = word >> 40;
    return top == 0x55 || top == 0x56 || top == 0x7e || top == 0x7f;
}

static void translate_words(void *words, size_t bytes) {
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, (char *)words + i, sizeof word);
        const uint64_t there = translate(word);
        if (there != 0)
            memcpy((char *)words + i, &there, sizeof there);
        else if (is_address(word))
            fail_msg("argument at byte %zu: a device cannot read it: give kernels cuda_copy(...)",
                     i);
    }
}

static void send(emb_cuda_exec *exec) {
    const size_t n = cuda_blocks();
    worked("no GPU", gpu_memory_open(exec));
    assert_true(n <= MOST);
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        const void *block = cuda_block(i, &bytes);
        worked("memory", gpu_memory_new(&mirror[i], bytes));
        worked("copy in", gpu_memory_put(mirror[i], block, bytes));
    }
}

static void fetch(void) {
    worked("kernels", gpu_memory_wait());
    for (size_t i = 0; i < cuda_blocks(); i++) {
        size_t bytes;
        void *block = cuda_block(i, &bytes);
        worked("copy out", gpu_memory_get(block, mirror[i], bytes));
        gpu_memory_free(mirror[i]);
    }
}

#define REMOTE(op)                                                                                 \
    embed_status gpu_remote_##op(emb_cuda_exec *exec, const emb_cuda_##op##_args *args);           \
    embed_status gpu_remote_##op(emb_cuda_exec *exec, const emb_cuda_##op##_args *args) {          \
        emb_cuda_##op##_args a = *args;                                                            \
        send(exec);                                                                                \
        translate_words(&a, sizeof a);                                                             \
        const embed_status st = emb_cuda_##op(exec, &a);                                           \
        fetch();                                                                                   \
        return st;                                                                                 \
    }
REMOTE(activation)
REMOTE(attention)
REMOTE(gemm)
REMOTE(gemm_mma)
REMOTE(gemm_sm90)
REMOTE(layernorm)
REMOTE(moe_collect)
REMOTE(moe_combine)
REMOTE(moe_dispatch)
REMOTE(moe_return)
REMOTE(pool)
REMOTE(quantize)
REMOTE(router_topk)

/* An array of addresses, at `there` on the device, gets those of the device; and back. */
static void send_addresses(const void *there, const void *host, size_t bytes) {
    void *words = malloc(bytes + 1);
    assert_non_null(words);
    if (bytes > 0) {
        memcpy(words, host, bytes);
        translate_words(words, bytes);
        worked("addresses", gpu_memory_put((void *)(uintptr_t)there, words, bytes));
    }
    free(words);
}

static void restore_addresses(const void *there, const void *host, size_t bytes) {
    worked("kernels", gpu_memory_wait());
    if (bytes > 0)
        worked("addresses", gpu_memory_put((void *)(uintptr_t)there, host, bytes));
}

embed_status gpu_remote_embed_lookup(emb_cuda_exec *exec, const emb_cuda_embed_lookup_args *args);
embed_status gpu_remote_embed_lookup(emb_cuda_exec *exec, const emb_cuda_embed_lookup_args *args) {
    emb_cuda_embed_lookup_args a = *args;
    const size_t bytes = a.rows != NULL ? (size_t)a.tokens * sizeof *a.rows : 0;
    send(exec);
    translate_words(&a, sizeof a);
    send_addresses((const void *)a.rows, (const void *)args->rows, bytes);
    const embed_status st = emb_cuda_embed_lookup(exec, &a);
    restore_addresses((const void *)a.rows, (const void *)args->rows, bytes);
    fetch();
    return st;
}

embed_status gpu_remote_row_copy(emb_cuda_exec *exec, const emb_cuda_row_copy_args *args);
embed_status gpu_remote_row_copy(emb_cuda_exec *exec, const emb_cuda_row_copy_args *args) {
    emb_cuda_row_copy_args a = *args;
    const size_t bytes = a.places != NULL && a.rows > 0 ? 2 * (size_t)a.rows * sizeof *a.places : 0;
    send(exec);
    translate_words(&a, sizeof a);
    send_addresses(a.places, args->places, bytes);
    const embed_status st = emb_cuda_row_copy(exec, &a);
    restore_addresses(a.places, args->places, bytes);
    fetch();
    return st;
}

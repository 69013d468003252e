#define _GNU_SOURCE
#include "ngram/ngram_memory.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "io/file.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_parts.h"

#define HEADER EMB_NGRAM_FILE_HEADER_BYTES

embed_status emb_ngram_memory_zeros(const char *what, uint64_t bytes, void **out) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    *out = NULL;
    if (p == MAP_FAILED)
        return emb_fail(EMBED_ERR_NOMEM, "%s: no memory for %" PRIu64 " bytes", what, bytes);
    *out = p;
    return EMBED_OK;
}

void emb_ngram_memory_huge(void *memory, uint64_t bytes) {
    const uintptr_t huge = (uintptr_t)2 << 20;
    const uintptr_t from = ((uintptr_t)memory + huge - 1) & ~(huge - 1);
    const uintptr_t to = ((uintptr_t)memory + bytes) & ~(huge - 1);
    if (to > from)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

void emb_ngram_memory_release(const void *memory, uint64_t bytes) {
    if (memory != NULL)
        (void)munmap((void *)(uintptr_t)memory, bytes);
}

embed_status emb_ngram_memory_map(int fd, const char *path, uint64_t bytes, int populate,
                                  const void **out) {
    void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED | (populate ? MAP_POPULATE : 0), fd, 0);
    *out = NULL;
    if (p == MAP_FAILED)
        return emb_file_fail(path, "cannot map");
    *out = p;
    return EMBED_OK;
}

embed_status emb_ngram_memory_copy(int fd, const char *path, uint64_t bytes, const void **out) {
    void *p;
    *out = NULL;
    embed_status st = emb_ngram_memory_zeros(path, bytes, &p);
    if (st != EMBED_OK)
        return st;
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* a hint; ordinary pages do too */
    st = emb_file_read_at(fd, path, 0, p, bytes);
    if (st != EMBED_OK)
        emb_ngram_memory_release(p, bytes);
    else
        *out = p;
    return st;
}

/* -------------------------------------------------------------------------------------- parts */

const unsigned char *emb_ngram_part_tag(const emb_ngram_part *part, uint64_t block) {
    const unsigned char *tags =
        part->tags != NULL ? part->tags : part->map + HEADER + part->payload_bytes;
    return tags + block * EMB_NGRAM_TAG_BYTES;
}

static uint32_t number_of(const embed_table *t, const emb_ngram_part *part) {
    return (uint32_t)(part - t->parts);
}

embed_status emb_ngram_part_block(const embed_table *t, const emb_ngram_part *part, uint64_t block,
                                  unsigned char *out) {
    const uint32_t bytes = t->manifest.layout.block_bytes;
    const uint64_t at = HEADER + block * bytes;
    embed_status st = EMBED_OK;
    char name[32];
    emb_ngram_part_name(number_of(t, part), name);
    if (part->map != NULL)
        memcpy(out, part->map + at, bytes);
    else
        EMB_TRY(emb_file_read_at(part->fd, name, at, out, bytes));
    if (t->cipher != NULL && !part->clear)
        EMB_TRY(emb_ngram_cipher_open(t->cipher, number_of(t, part), block, out, bytes, out,
                                      emb_ngram_part_tag(part, block), name));
    return EMBED_OK;
fail:
    emb_fail_prefix("%s", t->path);
    return st;
}

/* A private copy is decrypted once and then used like any other. */
static embed_status decrypt_copy(const embed_table *t, emb_ngram_part *part) {
    const uint32_t bytes = t->manifest.layout.block_bytes;
    unsigned char *at = (unsigned char *)(uintptr_t)part->map + HEADER;
    embed_status st = EMBED_OK;
    for (uint64_t b = 0; b < part->payload_bytes / bytes && st == EMBED_OK; b++)
        st = emb_ngram_part_block(t, part, b, at + b * bytes);
    part->clear = st == EMBED_OK;
    return st;
}

static embed_status load_tags(const embed_table *t, emb_ngram_part *part, int fd,
                              const char *path) {
    const uint64_t blocks = part->payload_bytes / t->manifest.layout.block_bytes;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_new_array(&t->env, blocks, EMB_NGRAM_TAG_BYTES, (void **)&part->tags));
    EMB_TRY(emb_file_read_at(fd, path, HEADER + part->payload_bytes, part->tags,
                             blocks * EMB_NGRAM_TAG_BYTES));
fail:
    return st;
}

embed_status emb_ngram_part_load(embed_table *t, emb_ngram_part *part, int fd, const char *path) {
    embed_status st = EMBED_OK;
    const void *map = NULL;
    const int encrypted = t->cipher != NULL;
    const uint64_t blocks = part->payload_bytes / t->manifest.layout.block_bytes;
    part->map_bytes = HEADER + part->payload_bytes + (encrypted ? blocks * EMB_NGRAM_TAG_BYTES : 0);
    if (t->mode == EMBED_TABLE_READ ||
        (t->mode == EMBED_TABLE_LAZY && t->io_asked > EMBED_TABLE_IO_WILLNEED))
        return encrypted ? load_tags(t, part, fd, path) : EMBED_OK;
    if (t->mode == EMBED_TABLE_HUGE)
        EMB_TRY(emb_ngram_memory_copy(fd, path, part->map_bytes, &map));
    else
        EMB_TRY(
            emb_ngram_memory_map(fd, path, part->map_bytes, t->mode == EMBED_TABLE_POPULATE, &map));
    part->map = map;
    part->is_private = t->mode == EMBED_TABLE_HUGE;
    part->clear = !encrypted;
    if (part->is_private && encrypted)
        EMB_TRY(decrypt_copy(t, part));
    if (!part->is_private) /* rows are scattered: read-ahead would fetch the whole file */
        (void)madvise((void *)(uintptr_t)map, part->map_bytes, MADV_RANDOM);
fail:
    return st;
}

void emb_ngram_part_unload(const embed_table *t, emb_ngram_part *part) {
    emb_ngram_memory_release(part->map, part->map_bytes);
    emb_ngram_memory_release(part->pinned, part->pinned_bytes);
    emb_free(&t->env, part->tags);
    emb_file_close(part->fd);
    emb_file_close(part->direct);
}

/* ------------------------------------------------------------------------------------ pinning */

static embed_status pin_part(embed_table *t, emb_ngram_part *part, uint64_t blocks) {
    const emb_ngram_layout *l = &t->manifest.layout;
    void *memory;
    embed_status st = emb_ngram_memory_zeros(t->path, blocks * l->block_bytes, &memory);
    if (st != EMBED_OK)
        return st;
    part->pinned = memory;
    part->pinned_bytes = blocks * l->block_bytes;
    (void)madvise(memory, part->pinned_bytes, MADV_HUGEPAGE);
    if (mlock(memory, part->pinned_bytes) != 0)
        return emb_fail(EMBED_ERR_NOMEM,
                        "%s: the system refuses to lock %" PRIu64
                        " bytes in memory: pin fewer, or raise `ulimit -l`",
                        t->path, part->pinned_bytes);
    for (uint64_t b = 0; b < blocks && st == EMBED_OK; b++)
        st = emb_ngram_part_block(t, part, b, part->pinned + b * l->block_bytes);
    if (st != EMBED_OK)
        return st;
    part->pinned_rows = blocks * l->rows_per_block;
    if (part->pinned_rows > part->rows)
        part->pinned_rows = part->rows;
    t->pinned_rows += part->pinned_rows;
    return EMBED_OK;
}

embed_status emb_ngram_parts_pin(embed_table *t, uint64_t bytes) {
    const uint32_t block = t->manifest.layout.block_bytes;
    embed_status st = EMBED_OK;
    for (int32_t i = 0; i < t->n_parts && bytes >= block && st == EMBED_OK; i++) {
        const uint64_t all = t->parts[i].payload_bytes / block;
        const uint64_t here = bytes / block < all ? bytes / block : all;
        st = pin_part(t, &t->parts[i], here);
        bytes -= here * block;
    }
    return st;
}

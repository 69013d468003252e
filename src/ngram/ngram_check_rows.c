#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "ngram/ngram_checking.h"

#define CHUNK_BYTES ((uint64_t)4 << 20) /* read at once */
#define TASK_BYTES (256u << 10)         /* checked by one task */
#define MAX_KEPT 32                     /* findings of one thread in one chunk that are described */
#define HEADER EMB_NGRAM_FILE_HEADER_BYTES

enum finding_kind { CORRUPT, MALFORMED, NOT_FOUND, NO_SUFFIX, PADDING, SEAL };

typedef struct finding {
    uint64_t row;
    enum finding_kind kind;
} finding;

typedef struct findings {
    size_t n, kept;
    finding list[MAX_KEPT];
} findings;

typedef struct checker {
    emb_ngram_checking *c;
    const emb_ngram_part *part; /* NULL: only the digest */
    uint32_t number, turn;
    int fd;
    const char *path;
    uint64_t at, end;           /* bytes of the file still to be read */
    uint64_t here, bytes, next; /* the chunk in work: its place and size; the size of the next */
    unsigned char *chunk[2];
    emb_ngram_sha256 *sha;
    embed_status read, digest;
    char message[512];
    findings *found; /* by thread */
    const unsigned char *tags;
} checker;

static void find(findings *f, uint64_t row, enum finding_kind kind) {
    f->n++;
    if (f->kept < MAX_KEPT)
        f->list[f->kept++] = (finding){row, kind};
}

/* ------------------------------------------------------------------------------ rows */

static int is_zero(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return 0;
    return 1;
}

static int is_well_formed(const emb_ngram_manifest *m, const emb_ngram_row_header *h) {
    if (h->length < 2 || h->length > m->k || !is_zero(h->reserved, sizeof h->reserved))
        return 0;
    for (uint32_t i = 0; i < EMB_NGRAM_MAX_K; i++)
        if (i < h->length ? h->ids[i] >= (uint32_t)m->binding.vocab : h->ids[i] != 0)
            return 0;
    return 1;
}

static void mark(uint8_t *marks, uint64_t bucket, int entry) {
    __atomic_fetch_or(&marks[bucket], (uint8_t)(1u << entry), __ATOMIC_RELAXED);
}

/* Its own n-gram leads to it, and the way there, its suffixes, is there too. */
static void follow(const checker *k, const emb_ngram_row_header *h, uint64_t row, findings *f) {
    const emb_ngram_index *ix = &k->c->table->index;
    const int32_t *ids = (const int32_t *)h->ids;
    uint64_t bucket;
    int entry = emb_ngram_index_entry(ix, ids, h->length, &bucket);
    if (entry < 0 || ix->buckets[bucket].row[entry] != row) {
        find(f, row, NOT_FOUND);
        return;
    }
    mark(k->c->seen, bucket, entry);
    for (int32_t n = h->length - 1; n >= 2; n--) {
        entry = emb_ngram_index_entry(ix, ids + h->length - n, n, &bucket);
        if (entry < 0 || (ix->buckets[bucket].meta[entry] & EMB_NGRAM_META_EXTENDABLE) == 0) {
            find(f, row, NO_SUFFIX);
            return;
        }
        mark(k->c->parts, bucket, entry);
    }
}

static void check_row(const checker *k, const unsigned char *bytes, uint64_t row, findings *f) {
    const emb_ngram_manifest *m = &k->c->manifest;
    emb_ngram_row_header h;
    if (emb_ngram_row_check(&m->layout, bytes, NULL, 0) != EMB_NGRAM_ROW_GOOD) {
        find(f, row, CORRUPT);
        return;
    }
    memcpy(&h, bytes, sizeof h);
    if (!is_well_formed(m, &h))
        find(f, row, MALFORMED);
    else
        follow(k, &h, row, f);
}

/* Block `in_part` of the part, whose bytes are at `block`. */
static void check_block(const checker *k, uint64_t in_part, unsigned char *block, findings *f) {
    const emb_ngram_layout *l = &k->c->manifest.layout;
    const embed_table *t = k->c->table;
    const uint64_t first = in_part * l->rows_per_block, left = k->part->rows - first;
    const uint32_t rows = left < l->rows_per_block ? (uint32_t)left : l->rows_per_block;
    if (t->cipher != NULL &&
        emb_ngram_cipher_open(t->cipher, k->number, in_part, block, l->block_bytes, block,
                              k->tags + in_part * EMB_NGRAM_TAG_BYTES, k->path) != EMBED_OK) {
        find(f, k->part->first_row + first, SEAL);
        return;
    }
    for (uint32_t i = 0; i < rows; i++)
        check_row(k, block + (size_t)i * l->row_bytes, k->part->first_row + first + i, f);
    const size_t used = (size_t)rows * l->row_bytes;
    if (!is_zero(block + used, l->block_bytes - used))
        find(f, k->part->first_row + first, PADDING);
}

/* ------------------------------------------------------------------------------ the pass */

/* Chunks start after the header and hold whole blocks as long as there are any. */
static uint64_t chunk_bytes(const checker *k, uint64_t at) {
    const uint64_t block = k->part != NULL ? k->c->manifest.layout.block_bytes : 4096;
    const uint64_t most = at == 0 ? HEADER : CHUNK_BYTES / block * block;
    const uint64_t size = most > 0 ? most : block, left = k->end - at;
    return left < size ? left : size;
}

static uint64_t blocks_here(const checker *k) {
    const emb_ngram_layout *l = &k->c->manifest.layout;
    if (k->part == NULL || k->here < HEADER || k->here >= HEADER + k->part->payload_bytes)
        return 0;
    const uint64_t left = HEADER + k->part->payload_bytes - k->here;
    return (left < k->bytes ? left : k->bytes) / l->block_bytes;
}

static void keep_message(checker *k) {
    (void)snprintf(k->message, sizeof k->message, "%s", emb_fail_sentence());
}

static void digest_chunk(checker *k) {
    k->digest = emb_ngram_sha256_update(k->sha, k->chunk[k->turn % 2], (size_t)k->bytes);
}

static void work(void *arg, size_t task, int thread) {
    checker *k = arg;
    const uint64_t per_task = TASK_BYTES / k->c->manifest.layout.block_bytes + 1;
    if (task == 0) {
        k->read =
            emb_file_read_at(k->fd, k->path, k->at, k->chunk[(k->turn + 1) % 2], (size_t)k->next);
        if (k->read != EMBED_OK)
            keep_message(k);
        return;
    }
    if (task == 1 && k->c->table != NULL && k->c->table->cipher != NULL && blocks_here(k) > 0)
        return; /* decrypting in place: the digest was taken before */
    if (task == 1) {
        digest_chunk(k);
        return;
    }
    const emb_ngram_layout *l = &k->c->manifest.layout;
    const uint64_t blocks = blocks_here(k), before = (k->here - HEADER) / l->block_bytes;
    for (uint64_t i = (task - 2) * per_task; i < blocks && i < (task - 1) * per_task; i++)
        check_block(k, before + i, k->chunk[k->turn % 2] + i * l->block_bytes, &k->found[thread]);
}

static void describe(const checker *k, const finding *f) {
    static const char *const what[] = {
        "fails its checksum",
        "has a malformed header",
        "is not found by its own n-gram",
        "has a suffix that the index does not lead on from",
        "block has bytes other than zero after its rows",
        "block fails its authentication tag: the bytes were changed",
    };
    (void)emb_fail(EMBED_ERR_FORMAT, "%s: row %" PRIu64 ": %s", k->path, f->row, what[f->kind]);
}

/* In the order of the rows, whichever thread found them. */
static void report(checker *k, const char *name) {
    const int threads = emb_pool_threads(k->c->pool);
    size_t n = 0;
    for (int i = 0; i < threads; i++)
        n += k->found[i].n;
    k->c->bad_rows += n;
    for (size_t told = 0; told < n; told++) {
        finding *least = NULL;
        for (int i = 0; i < threads; i++)
            for (size_t j = 0; j < k->found[i].kept; j++) {
                finding *f = &k->found[i].list[j];
                if (f->row != UINT64_MAX && (least == NULL || f->row < least->row))
                    least = f;
            }
        if (least == NULL) {
            k->c->result->problems += n - told; /* more than are kept: counted */
            break;
        }
        describe(k, least);
        emb_ngram_checking_note(k->c, name, EMBED_ERR_FORMAT);
        least->row = UINT64_MAX;
    }
    for (int i = 0; i < threads; i++)
        k->found[i].n = k->found[i].kept = 0;
}

static embed_status pass(checker *k, const char *name) {
    emb_ngram_checking *c = k->c;
    embed_status st = EMBED_OK;
    const uint64_t per_task = TASK_BYTES / c->manifest.layout.block_bytes + 1;
    k->next = chunk_bytes(k, 0);
    for (;; k->turn++) {
        const uint64_t tasks = (blocks_here(k) + per_task - 1) / per_task;
        if (c->table != NULL && c->table->cipher != NULL && blocks_here(k) > 0)
            digest_chunk(k);
        emb_pool_run(c->pool, 2 + (size_t)tasks, work, k);
        if (k->read != EMBED_OK)
            return emb_fail(k->read, "%s", k->message);
        if (k->digest != EMBED_OK)
            return emb_fail(k->digest, "%s: SHA-256 failed", k->path);
        report(k, name);
        c->result->bytes += k->bytes;
        EMB_TRY(
            emb_ngram_tell(&c->teller, "check rows", "bytes", c->result->bytes, c->total_bytes));
        if (k->next == 0)
            return EMBED_OK;
        k->here = k->at;
        k->bytes = k->next;
        k->at += k->bytes;
        k->next = chunk_bytes(k, k->at);
    }
fail:
    return st;
}

/* The tags lie after the blocks. */
static embed_status read_tags(checker *k, unsigned char **tags) {
    const embed_table *t = k->c->table;
    embed_status st = EMBED_OK;
    if (k->part == NULL || t->cipher == NULL)
        return EMBED_OK;
    const uint64_t bytes =
        k->part->payload_bytes / t->manifest.layout.block_bytes * EMB_NGRAM_TAG_BYTES;
    EMB_TRY(emb_alloc(&t->env, (size_t)bytes, (void **)tags));
    EMB_TRY(
        emb_file_read_at(k->fd, k->path, HEADER + k->part->payload_bytes, *tags, (size_t)bytes));
    k->tags = *tags;
fail:
    return st;
}

static embed_status check_whole(checker *k, const emb_ngram_file *file) {
    emb_ngram_checking *c = k->c;
    const emb_env *env = &c->env;
    const uint64_t block = c->manifest.layout.block_bytes;
    const size_t room = (size_t)(CHUNK_BYTES > block ? CHUNK_BYTES : block);
    char *path = NULL, hex[65];
    unsigned char *tags = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_file_join(env, c->dir, file->name, &path));
    k->path = path;
    k->fd = -1;
    if (emb_file_open(path, &k->fd, &k->end) != EMBED_OK || k->end != file->bytes)
        goto fail; /* said before */
    EMB_TRY(emb_ngram_sha256_start(&k->sha, env));
    EMB_TRY(read_tags(k, &tags));
    for (int i = 0; i < 2; i++)
        EMB_TRY(emb_alloc(env, room, (void **)&k->chunk[i]));
    EMB_TRY(emb_new_array(env, (size_t)emb_pool_threads(c->pool), sizeof *k->found,
                          (void **)&k->found));
    EMB_TRY(pass(k, file->name));
    emb_ngram_sha256 *sha = k->sha;
    k->sha = NULL;
    EMB_TRY(emb_ngram_sha256_finish(sha, hex));
    if (strcmp(hex, file->sha256) != 0) {
        (void)emb_fail(EMBED_ERR_FORMAT, "%s: expected SHA-256 %s, found %s", path, file->sha256,
                       hex);
        emb_ngram_checking_note(c, file->name, EMBED_ERR_FORMAT);
    }
fail:
    emb_ngram_sha256_free(k->sha);
    emb_file_close(k->fd);
    emb_free(env, tags);
    emb_free(env, k->chunk[0]);
    emb_free(env, k->chunk[1]);
    emb_free(env, k->found);
    emb_free(env, path);
    return st;
}

embed_status emb_ngram_check_part(emb_ngram_checking *c, uint32_t number,
                                  const emb_ngram_file *file) {
    checker k = {.c = c, .number = number};
    if (c->table != NULL && (int32_t)number < c->table->n_parts)
        k.part = &c->table->parts[number];
    return check_whole(&k, file);
}

embed_status emb_ngram_check_digest(emb_ngram_checking *c, const emb_ngram_file *file) {
    checker k = {.c = c};
    return check_whole(&k, file);
}

/* ------------------------------------------------------------------------------ the index */

void emb_ngram_check_entries(emb_ngram_checking *c) {
    const emb_ngram_index *ix = &c->table->index;
    uint64_t used = 0, strange = 0;
    for (uint64_t b = 0; b < ix->n_buckets; b++)
        for (int e = 0; e < EMB_NGRAM_BUCKET_ENTRIES; e++) {
            const uint8_t meta = ix->buckets[b].meta[e];
            if ((meta & EMB_NGRAM_META_USED) == 0)
                continue;
            used++;
            const int has_row = ix->buckets[b].row[e] != EMB_NGRAM_NO_ROW;
            const int leads_on = (meta & EMB_NGRAM_META_EXTENDABLE) != 0;
            strange += has_row != (c->seen[b] >> e & 1) || leads_on != (c->parts[b] >> e & 1);
        }
    if (used != c->manifest.keys) {
        (void)emb_fail(EMBED_ERR_FORMAT,
                       "%s/index.bin: expected %" PRIu64 " entries, found %" PRIu64, c->dir,
                       c->manifest.keys, used);
        emb_ngram_checking_note(c, "index.bin", EMBED_ERR_FORMAT);
    }
    if (strange > 0 && c->bad_rows == 0) {
        (void)emb_fail(EMBED_ERR_FORMAT,
                       "%s/index.bin: %" PRIu64 " entries belong to no row that was found", c->dir,
                       strange);
        emb_ngram_checking_note(c, "index.bin", EMBED_ERR_FORMAT);
    }
}

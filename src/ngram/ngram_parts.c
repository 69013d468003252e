#define _GNU_SOURCE
#include "ngram/ngram_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/file.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_memory.h"
#include "ngram/ngram_path.h"

#define HEADER EMB_NGRAM_FILE_HEADER_BYTES

void emb_ngram_part_name(uint32_t part, char out[32]) {
    (void)snprintf(out, 32, "rows-%03" PRIu32 ".bin", part);
}

static uint64_t header_checksum(const emb_ngram_file_header *h) {
    emb_ngram_file_header copy = *h;
    copy.checksum = 0;
    return XXH3_64bits(&copy, sizeof copy);
}

void emb_ngram_header_seal(emb_ngram_file_header *h) {
    h->checksum = header_checksum(h);
}

embed_status emb_ngram_header_check(const emb_ngram_file_header *h, uint64_t magic,
                                    const char *name) {
    if (h->magic != magic)
        return emb_fail(EMBED_ERR_FORMAT, "%s: expected magic %016" PRIx64 ", found %016" PRIx64,
                        name, magic, h->magic);
    if (h->version != EMB_NGRAM_VERSION)
        return emb_fail(EMBED_ERR_UNSUPPORTED, "%s: expected version %d, found %" PRIu32, name,
                        EMB_NGRAM_VERSION, h->version);
    if (h->checksum != header_checksum(h))
        return emb_fail(EMBED_ERR_FORMAT, "%s: the header fails its checksum", name);
    return EMBED_OK;
}

/* ---------------------------------------------------------------------------- opening a file */

typedef struct opened {
    char *path;
    int fd;
    uint64_t size;
    emb_ngram_file_header header;
} opened;

static const emb_ngram_file *manifest_file(const embed_table *t, const char *name) {
    for (size_t i = 0; i < t->manifest.n_files; i++)
        if (strcmp(t->manifest.files[i].name, name) == 0)
            return &t->manifest.files[i];
    return NULL;
}

/* No symbolic link, nobody else may write to it, and exactly as long as the manifest says. */
static embed_status open_file(const embed_table *t, const char *name, int allow_unsafe, opened *o) {
    const emb_ngram_file *f = manifest_file(t, name);
    embed_status st = emb_file_join(&t->env, t->path, name, &o->path);
    if (st != EMBED_OK)
        return st;
    if (f == NULL)
        return emb_fail(EMBED_ERR_FORMAT, "%s: not in the manifest", o->path);
    EMB_TRY(emb_file_open(o->path, &o->fd, &o->size));
    if (!allow_unsafe)
        EMB_TRY(emb_ngram_path_check(o->path, o->fd));
    if (o->size != f->bytes)
        return emb_fail(o->size < f->bytes ? EMBED_ERR_TRUNCATED : EMBED_ERR_FORMAT,
                        "%s: expected %" PRIu64 " bytes, found %" PRIu64, o->path, f->bytes,
                        o->size);
    if (o->size < HEADER)
        return emb_fail(EMBED_ERR_TRUNCATED, "%s: shorter than its header", o->path);
    EMB_TRY(emb_file_read_at(o->fd, o->path, 0, &o->header, sizeof o->header));
fail:
    return st;
}

static void close_file(const embed_table *t, opened *o) {
    emb_file_close(o->fd);
    emb_free(&t->env, o->path);
}

/* What every header must say; payload and tags must fill the file. */
static embed_status check_header(const embed_table *t, const opened *o, uint64_t magic,
                                 uint64_t payload, uint64_t blocks) {
    const emb_ngram_file_header *h = &o->header;
    const uint32_t tag = t->manifest.encrypted ? EMB_NGRAM_TAG_BYTES : 0;
    const embed_status st = emb_ngram_header_check(h, magic, o->path);
    if (st != EMBED_OK)
        return st;
    if (memcmp(h->table_id, t->manifest.table_id, sizeof h->table_id) != 0)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: belongs to another table than the manifest beside it", o->path);
    if (h->payload_bytes != payload || h->tag_bytes != tag ||
        o->size != HEADER + payload + blocks * tag)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: expected %" PRIu64 " payload bytes and %" PRIu32
                        " bytes a tag, found %" PRIu64 " and %" PRIu32,
                        o->path, payload, tag, h->payload_bytes, h->tag_bytes);
    return EMBED_OK;
}

/* ---------------------------------------------------------------------------- the index */

static uint64_t index_chunks(uint64_t bytes) {
    return (bytes + EMB_NGRAM_INDEX_CHUNK - 1) / EMB_NGRAM_INDEX_CHUNK;
}

static embed_status decrypt_index(const embed_table *t, const opened *o, unsigned char *file) {
    const uint64_t bytes = o->header.payload_bytes;
    unsigned char *payload = file + HEADER;
    const unsigned char *tags = payload + bytes;
    embed_status st = EMBED_OK;
    for (uint64_t i = 0; i < index_chunks(bytes) && st == EMBED_OK; i++) {
        unsigned char *at = payload + i * EMB_NGRAM_INDEX_CHUNK;
        const uint64_t left = bytes - i * EMB_NGRAM_INDEX_CHUNK;
        st = emb_ngram_cipher_open(t->cipher, EMB_NGRAM_INDEX_PART, i, at,
                                   left < EMB_NGRAM_INDEX_CHUNK ? left : EMB_NGRAM_INDEX_CHUNK, at,
                                   tags + i * EMB_NGRAM_TAG_BYTES, o->path);
    }
    return st;
}

static embed_status open_index(embed_table *t, int allow_unsafe) {
    embed_status st = EMBED_OK;
    opened o = {.fd = -1};
    const emb_ngram_manifest *m = &t->manifest;
    const uint64_t payload = m->n_buckets * sizeof(emb_ngram_bucket);
    const int copy = t->mode == EMBED_TABLE_HUGE || t->mode == EMBED_TABLE_READ || m->encrypted;
    EMB_TRY(open_file(t, "index.bin", allow_unsafe, &o));
    EMB_TRY(check_header(t, &o, EMB_NGRAM_INDEX_MAGIC, payload, index_chunks(payload)));
    if (o.header.count != m->n_buckets || o.header.keys != m->keys || o.header.seed != m->seed) {
        st = emb_fail(EMBED_ERR_MISMATCH,
                      "%s: buckets, keys, seed: manifest says %" PRIu64 ", %" PRIu64 ", %" PRIu64
                      ", found %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                      o.path, m->n_buckets, m->keys, m->seed, o.header.count, o.header.keys,
                      o.header.seed);
        goto fail;
    }
    if (copy)
        EMB_TRY(emb_ngram_memory_copy(o.fd, o.path, o.size, &t->index_map));
    else
        EMB_TRY(emb_ngram_memory_map(o.fd, o.path, o.size, t->mode == EMBED_TABLE_POPULATE,
                                     &t->index_map));
    t->index_map_bytes = o.size;
    if (m->encrypted)
        EMB_TRY(decrypt_index(t, &o, (unsigned char *)(uintptr_t)t->index_map));
    const unsigned char *buckets = (const unsigned char *)t->index_map + HEADER;
    /* Checked once, here: afterwards a changed bit could only make a match disappear, and nobody
     * would notice. Reading it also brings it in, which the first batch needs anyway. */
    if (XXH3_64bits(buckets, payload) != o.header.payload_checksum) {
        st = emb_fail(EMBED_ERR_FORMAT, "%s: the buckets fail their checksum", o.path);
        goto fail;
    }
    t->index.buckets = (const emb_ngram_bucket *)(const void *)buckets;
fail:
    close_file(t, &o);
    return st;
}

/* ---------------------------------------------------------------------------- the rows */

static embed_status open_part(embed_table *t, uint32_t number, uint64_t first_row,
                              int allow_unsafe) {
    embed_status st = EMBED_OK;
    opened o = {.fd = -1};
    char name[32];
    emb_ngram_part *part = &t->parts[number];
    const emb_ngram_layout *l = &t->manifest.layout;
    emb_ngram_part_name(number, name);
    part->fd = part->direct = -1;
    EMB_TRY(open_file(t, name, allow_unsafe, &o));
    const emb_ngram_file_header *h = &o.header;
    if (h->count > t->manifest.rows - first_row) {
        st = emb_fail(EMBED_ERR_MISMATCH,
                      "%s: %" PRIu64 " rows after row %" PRIu64 ", the table has %" PRIu64, o.path,
                      h->count, first_row, t->manifest.rows);
        goto fail;
    }
    const uint64_t payload = emb_ngram_rows_bytes(l, h->count);
    EMB_TRY(check_header(t, &o, EMB_NGRAM_ROWS_MAGIC, payload, payload / l->block_bytes));
    if (h->part != number || h->first_row != first_row || h->row_bytes != l->row_bytes ||
        h->rows_per_block != l->rows_per_block || h->block_bytes != l->block_bytes) {
        st = emb_fail(EMBED_ERR_MISMATCH,
                      "%s: part, first row, row bytes: expected %" PRIu32 ", %" PRIu64 ", %" PRIu32
                      ", found %" PRIu32 ", %" PRIu64 ", %" PRIu32,
                      o.path, number, first_row, l->row_bytes, h->part, h->first_row, h->row_bytes);
        goto fail;
    }
    part->first_row = first_row;
    part->rows = h->count;
    part->payload_bytes = payload;
    EMB_TRY(emb_ngram_part_load(t, part, o.fd, o.path));
    part->fd = o.fd;
    o.fd = -1;
fail:
    close_file(t, &o);
    return st;
}

/* Every file that the manifest names is one that was opened. */
static embed_status check_count(const embed_table *t) {
    const size_t expected = 1 + (size_t)t->n_parts + (t->manifest.projection != NULL);
    if (t->manifest.n_files != expected)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: %" PRIu64 " rows lie in %" PRId32 " row files: expected %zu files in "
                        "the manifest, found %zu",
                        t->path, t->manifest.rows, t->n_parts, expected, t->manifest.n_files);
    return EMBED_OK;
}

embed_status emb_ngram_parts_open(embed_table *t, int allow_unsafe) {
    embed_status st = EMBED_OK;
    uint64_t rows = 0;
    EMB_TRY(emb_new_array(&t->env, EMB_NGRAM_MAX_PARTS, sizeof *t->parts, (void **)&t->parts));
    EMB_TRY(open_index(t, allow_unsafe));
    while (rows < t->manifest.rows) {
        const uint32_t number = (uint32_t)t->n_parts;
        if (number == EMB_NGRAM_MAX_PARTS)
            return emb_fail(EMBED_ERR_FORMAT, "%s: more than %d row files", t->path,
                            EMB_NGRAM_MAX_PARTS);
        t->n_parts++;
        EMB_TRY(open_part(t, number, rows, allow_unsafe));
        if (t->parts[number].rows == 0)
            return emb_fail(EMBED_ERR_FORMAT, "%s: row file %" PRIu32 " is empty", t->path, number);
        rows += t->parts[number].rows;
    }
    EMB_TRY(check_count(t));
fail:
    return st;
}

void emb_ngram_parts_close(embed_table *t) {
    for (int32_t i = 0; i < t->n_parts; i++)
        emb_ngram_part_unload(t, &t->parts[i]);
    emb_ngram_memory_release(t->index_map, t->index_map_bytes);
    emb_free(&t->env, t->parts);
}

#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/durable.h"
#include "io/file.h"
#include "ngram/counts_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t emb_counts_sections_end(const emb_counts_section *sections, int32_t with_documents) {
    uint64_t at = sizeof(emb_counts_header);
    for (int32_t n = 2; n <= EMB_NGRAM_MAX_K && sections[n].offset != 0; n++)
        at += sections[n].entries * emb_counts_record_bytes(n, with_documents);
    return at;
}

static embed_status cut_file(emb_counts_writer *w) {
    const off_t size = lseek(w->fd, 0, SEEK_END);
    if (size < 0)
        return emb_file_fail(w->path, "cannot seek");
    if ((uint64_t)size < w->at)
        return emb_fail(EMBED_ERR_TRUNCATED,
                        "%s: expected at least %llu bytes of the run to resume, found %llu; start "
                        "afresh",
                        w->path, (unsigned long long)w->at, (unsigned long long)size);
    if (ftruncate(w->fd, (off_t)w->at) != 0)
        return emb_file_fail(w->path, "cannot truncate");
    return EMBED_OK;
}

embed_status emb_counts_writer_open(emb_counts_writer *w, const emb_env *env, const char *path,
                                    const emb_counts_header *header, int resume,
                                    size_t buffer_bytes) {
    embed_status st = EMBED_OK;
    *w = (emb_counts_writer){.env = env, .fd = -1, .header = *header};
    w->capacity = buffer_bytes < EMB_COUNTS_RECORD_MAX ? EMB_COUNTS_RECORD_MAX : buffer_bytes;
    w->at = emb_counts_sections_end(header->sections, header->with_documents);
    EMB_TRY(emb_strdup(env, path, strlen(path), &w->path));
    EMB_TRY(emb_alloc(env, w->capacity, (void **)&w->buffer));
    EMB_TRY(emb_alloc(env, sizeof(XXH3_state_t), &w->hash));
    w->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (resume ? 0 : O_TRUNC), 0644);
    if (w->fd < 0)
        st = emb_file_fail(path, "cannot create");
    else if (resume)
        st = cut_file(w);
    else /* no header yet: what was written until now cannot be taken for a whole file */
        st = ftruncate(w->fd, (off_t)w->at) != 0 ? emb_file_fail(path, "cannot extend") : EMBED_OK;
    if (st == EMBED_OK)
        return EMBED_OK;
fail:
    emb_counts_writer_close(w);
    return st;
}

void emb_counts_writer_close(emb_counts_writer *w) {
    if (w->env == NULL)
        return;
    emb_file_close(w->fd);
    emb_free(w->env, w->path);
    emb_free(w->env, w->buffer);
    emb_free(w->env, w->hash);
    *w = (emb_counts_writer){.fd = -1};
}

void emb_counts_writer_start(emb_counts_writer *w, int32_t length) {
    w->length = length;
    w->header.sections[length] = (emb_counts_section){.offset = w->at};
    (void)XXH3_64bits_reset(w->hash);
}

static embed_status flush(emb_counts_writer *w) {
    const embed_status st = emb_durable_write_at(w->fd, w->buffer, w->used, w->at, w->path);
    if (st != EMBED_OK)
        return st;
    (void)XXH3_64bits_update(w->hash, w->buffer, w->used);
    w->at += w->used;
    w->used = 0;
    return EMBED_OK;
}

embed_status emb_counts_writer_put(emb_counts_writer *w, const emb_counts_record *record) {
    const int32_t with = w->header.with_documents;
    const size_t bytes = emb_counts_record_bytes(w->length, with);
    if (w->capacity - w->used < bytes) {
        const embed_status st = flush(w);
        if (st != EMBED_OK)
            return st;
    }
    unsigned char *p = w->buffer + w->used;
    memcpy(p, &record->count, 8);
    if (with)
        memcpy(p + 8, &record->documents, 4);
    memcpy(p + (with ? 12 : 8), record->ids, 4 * (size_t)w->length);
    w->used += bytes;
    w->header.sections[w->length].entries++;
    return EMBED_OK;
}

embed_status emb_counts_writer_end(emb_counts_writer *w) {
    const embed_status st = flush(w);
    w->header.sections[w->length].checksum = XXH3_64bits_digest(w->hash);
    return st;
}

embed_status emb_counts_writer_sync(emb_counts_writer *w) {
    return fsync(w->fd) != 0 ? emb_file_fail(w->path, "cannot sync") : EMBED_OK;
}

embed_status emb_counts_writer_publish(emb_counts_writer *w, const char *output) {
    embed_status st = EMBED_OK;
    emb_counts_header_seal(&w->header);
    EMB_TRY(emb_durable_write_at(w->fd, &w->header, sizeof w->header, 0, w->path));
    EMB_TRY(emb_counts_writer_sync(w));
    EMB_TRY(emb_durable_rename(w->env, w->path, output));
fail:
    return st;
}

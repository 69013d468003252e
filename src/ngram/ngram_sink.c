#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/durable.h"
#include "io/file.h"
#include "ngram/ngram_parts.h"
#include "ngram/ngram_writing.h"

embed_status emb_ngram_sink_open(emb_ngram_sink *s, emb_ngram_writing *w, const char *name) {
    embed_status st = EMBED_OK;
    *s = (emb_ngram_sink){.fd = -1};
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    EMB_TRY(emb_file_join(&w->env, w->partial, name, &s->path));
    EMB_TRY(emb_ngram_sha256_start(&s->sha, &w->env));
    s->fd = open(s->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (s->fd < 0)
        st = emb_file_fail(s->path, "cannot create");
fail:
    if (st != EMBED_OK)
        emb_ngram_sink_abandon(s, w);
    return st;
}

embed_status emb_ngram_sink_write(emb_ngram_sink *s, const void *data, size_t bytes) {
    const embed_status st = emb_durable_write_all(s->fd, data, bytes, s->path);
#if defined(SYNC_FILE_RANGE_WRITE)
    /* The disk starts now, not when the last byte is there and everyone waits for fsync. */
    if (st == EMBED_OK && bytes > 0)
        (void)sync_file_range(s->fd, (off_t)s->bytes, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
#endif
    s->bytes += bytes;
    return st;
}

embed_status emb_ngram_sink_digest(emb_ngram_sink *s, const void *data, size_t bytes) {
    return emb_ngram_sha256_update(s->sha, data, bytes);
}

embed_status emb_ngram_sink_put(emb_ngram_sink *s, const void *data, size_t bytes) {
    const embed_status st = emb_ngram_sink_write(s, data, bytes);
    return st != EMBED_OK ? st : emb_ngram_sink_digest(s, data, bytes);
}

embed_status emb_ngram_sink_header(emb_ngram_sink *s, const emb_ngram_writing *w,
                                   emb_ngram_file_header *h) {
    static const unsigned char zeros[1024];
    h->version = EMB_NGRAM_VERSION;
    memcpy(h->table_id, w->manifest.table_id, sizeof h->table_id);
    h->tag_bytes = w->cipher != NULL ? EMB_NGRAM_TAG_BYTES : 0;
    emb_ngram_header_seal(h);
    embed_status st = emb_ngram_sink_put(s, h, sizeof *h);
    for (size_t at = sizeof *h; at < EMB_NGRAM_FILE_HEADER_BYTES && st == EMBED_OK;) {
        const size_t left = EMB_NGRAM_FILE_HEADER_BYTES - at;
        const size_t here = left < sizeof zeros ? left : sizeof zeros;
        st = emb_ngram_sink_put(s, zeros, here);
        at += here;
    }
    return st;
}

embed_status emb_ngram_sink_finish(emb_ngram_sink *s, emb_ngram_writing *w) {
    embed_status st = EMBED_OK;
    char hex[65];
    emb_ngram_sha256 *sha = s->sha;
    s->sha = NULL; /* _finish frees it in any case */
    EMB_TRY(emb_ngram_sha256_finish(sha, hex));
    if (fsync(s->fd) != 0) {
        st = emb_file_fail(s->path, "cannot sync");
        goto fail;
    }
    const int fd = s->fd;
    s->fd = -1;
    if (close(fd) != 0) {
        st = emb_file_fail(s->path, "cannot close");
        goto fail;
    }
    EMB_TRY(emb_durable_sync_dir(w->partial));
    EMB_TRY(emb_ngram_journal_add_file(&w->journal, &w->env, s->name, s->bytes, hex));
fail:
    emb_ngram_sink_abandon(s, w);
    return st;
}

void emb_ngram_sink_abandon(emb_ngram_sink *s, const emb_ngram_writing *w) {
    emb_ngram_sha256_free(s->sha);
    emb_file_close(s->fd);
    emb_free(&w->env, s->path);
    *s = (emb_ngram_sink){.fd = -1};
}

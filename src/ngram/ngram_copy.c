#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_copy.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "io/durable.h"
#include "io/file.h"
#include "ngram/ngram_crypt.h"

#define PIECE ((size_t)4 << 20)

typedef struct copier {
    const emb_env *env;
    emb_ngram_teller *teller;
    unsigned char *piece;
    uint64_t done, total;
} copier;

static embed_status pump(copier *c, int in, const char *from, int out, const char *to,
                         const emb_ngram_file *f) {
    emb_ngram_sha256 *sha = NULL;
    char hex[65];
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_sha256_start(&sha, c->env));
    for (uint64_t at = 0; at < f->bytes;) {
        const size_t n = f->bytes - at < PIECE ? (size_t)(f->bytes - at) : PIECE;
        EMB_TRY(emb_file_read_at(in, from, at, c->piece, n));
        EMB_TRY(emb_ngram_sha256_update(sha, c->piece, n));
        EMB_TRY(emb_durable_write_all(out, c->piece, n, to));
        at += n;
        c->done += n;
        EMB_TRY(emb_ngram_tell(c->teller, "copy", "bytes", c->done, c->total));
    }
    emb_ngram_sha256 *whole = sha;
    sha = NULL;
    EMB_TRY(emb_ngram_sha256_finish(whole, hex));
    if (strcmp(hex, f->sha256) != 0)
        st = emb_fail(EMBED_ERR_FORMAT, "%s: expected SHA-256 %s, found %s", from, f->sha256, hex);
fail:
    emb_ngram_sha256_free(sha);
    return st;
}

static embed_status copy_file(copier *c, const char *from_dir, const char *to_dir,
                              const emb_ngram_file *f) {
    char *from = NULL, *to = NULL;
    int in = -1, out = -1;
    uint64_t size;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_file_join(c->env, from_dir, f->name, &from));
    EMB_TRY(emb_file_join(c->env, to_dir, f->name, &to));
    EMB_TRY(emb_file_open(from, &in, &size));
    if (size != f->bytes) {
        st = emb_fail(size < f->bytes ? EMBED_ERR_TRUNCATED : EMBED_ERR_FORMAT,
                      "%s: expected %llu bytes, found %llu", from, (unsigned long long)f->bytes,
                      (unsigned long long)size);
        goto fail;
    }
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (out < 0) {
        st = emb_file_fail(to, "cannot create");
        goto fail;
    }
    EMB_TRY(pump(c, in, from, out, to, f));
    if (fsync(out) != 0)
        st = emb_file_fail(to, "cannot sync");
fail:
    emb_file_close(in);
    if (out >= 0 && close(out) != 0 && st == EMBED_OK)
        st = emb_file_fail(to, "cannot close");
    emb_free(c->env, from);
    emb_free(c->env, to);
    return st;
}

/* The manifest has no digest in itself; its text is checked by whoever reads it. */
static embed_status copy_manifest(copier *c, const char *from_dir, const char *to_dir) {
    char *from = NULL, *to = NULL, *text = NULL;
    size_t bytes;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_file_join(c->env, from_dir, "manifest.json", &from));
    EMB_TRY(emb_file_join(c->env, to_dir, "manifest.json", &to));
    EMB_TRY(emb_file_read(from, c->env, (size_t)64 << 20, 0, &text, &bytes));
    EMB_TRY(emb_durable_write(to, text, bytes));
fail:
    emb_free(c->env, from);
    emb_free(c->env, to);
    emb_free(c->env, text);
    return st;
}

embed_status emb_ngram_copy(const emb_env *env, const char *from, const char *to,
                            const emb_ngram_manifest *m, emb_ngram_teller *teller) {
    copier c = {.env = env, .teller = teller};
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < m->n_files; i++)
        c.total += m->files[i].bytes;
    EMB_TRY(emb_alloc(env, PIECE, (void **)&c.piece));
    for (size_t i = 0; i < m->n_files; i++)
        EMB_TRY(copy_file(&c, from, to, &m->files[i]));
    EMB_TRY(copy_manifest(&c, from, to));
    EMB_TRY(emb_durable_sync_dir(to));
fail:
    emb_free(env, c.piece);
    return st;
}

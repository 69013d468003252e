#define _DEFAULT_SOURCE
#include "ngram/counter_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/durable.h"
#include "io/file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define STATE_MAGIC 0x54534e4344424d45u
#define STATE_VERSION 1

void emb_ngram_count_identify(emb_ngram_count_identity *identity, const char *input, size_t len) {
    const XXH128_hash_t h = XXH3_128bits(input, len);
    identity->input_hash[0] = h.high64;
    identity->input_hash[1] = h.low64;
    (void)snprintf(identity->input, sizeof identity->input, "%.*s",
                   (int)(len < sizeof identity->input ? len : sizeof identity->input - 1), input);
}

/* ------------------------------------------------------------------------------- work directory */

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static embed_status make_paths(emb_ngram_work *w, const char *output, const char *temp_dir) {
    const char *name = temp_dir != NULL ? last_part(output) : output;
    embed_status st = EMBED_OK;
    size_t bytes;
    char *work = NULL;
    EMB_TRY(emb_add(strlen(name), sizeof ".work", "path", &bytes));
    EMB_TRY(emb_alloc(&w->env, bytes, (void **)&work));
    (void)snprintf(work, bytes, "%s.work", name);
    if (temp_dir != NULL)
        EMB_TRY(emb_file_join(&w->env, temp_dir, work, &w->dir));
    else
        EMB_TRY(emb_strdup(&w->env, work, strlen(work), &w->dir));
    EMB_TRY(emb_file_join(&w->env, w->dir, "state", &w->state_path));
    EMB_TRY(emb_file_join(&w->env, w->dir, "state.next", &w->next_path));
fail:
    emb_free(&w->env, work);
    return st;
}

embed_status emb_ngram_work_open(emb_ngram_work *w, const emb_env *env, const char *output,
                                 const char *temp_dir) {
    embed_status st = EMBED_OK;
    *w = (emb_ngram_work){.env = *env, .lock = -1};
    EMB_TRY(make_paths(w, output, temp_dir));
    if (mkdir(w->dir, 0755) != 0 && errno != EEXIST) {
        st = emb_file_fail(w->dir, "cannot create");
        goto fail;
    }
    w->lock = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->lock < 0)
        st = emb_file_fail(w->dir, "cannot open");
    else if (flock(w->lock, LOCK_EX | LOCK_NB) != 0)
        st = errno == EWOULDBLOCK
                 ? emb_fail(EMBED_ERR_ARG, "%s: another process is counting there", w->dir)
                 : emb_file_fail(w->dir, "cannot lock");
    if (st == EMBED_OK)
        return EMBED_OK;
fail:
    emb_ngram_work_close(w);
    return st;
}

void emb_ngram_work_close(emb_ngram_work *w) {
    if (w->env.allocator.alloc == NULL)
        return;
    emb_file_close(w->lock);
    emb_free(&w->env, w->dir);
    emb_free(&w->env, w->state_path);
    emb_free(&w->env, w->next_path);
    *w = (emb_ngram_work){.lock = -1};
}

static void name_of(int32_t length, char name[24]) {
    if (length == 0)
        (void)snprintf(name, 24, "tokens");
    else
        (void)snprintf(name, 24, "numbers-%d", length);
}

embed_status emb_ngram_work_path(const emb_ngram_work *w, int32_t length, char **out) {
    char name[24];
    name_of(length, name);
    return emb_file_join(&w->env, w->dir, name, out);
}

void emb_ngram_work_remove(const emb_ngram_work *w) {
    char name[24];
    (void)unlink(w->state_path); /* first: what is left then is never taken for a state */
    (void)unlink(w->next_path);
    for (int32_t n = 0; n <= EMB_NGRAM_MAX_K; n++) {
        name_of(n, name);
        (void)unlinkat(w->lock, name, 0);
    }
    (void)rmdir(w->dir);
}

/* ----------------------------------------------------------------------------------------- state
 */

static uint64_t state_checksum(const emb_ngram_state *s) {
    return XXH3_64bits(s, offsetof(emb_ngram_state, checksum));
}

static embed_status differ(const char *path, const char *what, const char *theirs,
                           const char *mine) {
    return emb_fail(EMBED_ERR_MISMATCH,
                    "%s: %s: the run to resume has %s, this one %s; use the same options, or start "
                    "afresh without resuming",
                    path, what, theirs, mine);
}

static embed_status differ_number(const char *path, const char *what, uint64_t theirs,
                                  uint64_t mine) {
    char a[24], b[24];
    (void)snprintf(a, sizeof a, "%llu", (unsigned long long)theirs);
    (void)snprintf(b, sizeof b, "%llu", (unsigned long long)mine);
    return differ(path, what, a, b);
}

static embed_status same_job(const char *path, const emb_ngram_count_identity *theirs,
                             const emb_ngram_count_identity *mine) {
    if (strcmp(theirs->tokenizer, mine->tokenizer) != 0)
        return differ(path, "tokenizer", theirs->tokenizer, mine->tokenizer);
    if (theirs->vocab != mine->vocab)
        return differ_number(path, "vocabulary", (uint64_t)theirs->vocab, (uint64_t)mine->vocab);
    if (theirs->k != mine->k)
        return differ_number(path, "K", (uint64_t)theirs->k, (uint64_t)mine->k);
    if (theirs->min_count != mine->min_count)
        return differ_number(path, "least count", theirs->min_count, mine->min_count);
    if (theirs->min_documents != mine->min_documents)
        return differ_number(path, "least documents", theirs->min_documents, mine->min_documents);
    if (memcmp(theirs->input_hash, mine->input_hash, sizeof mine->input_hash) != 0)
        return differ(path, "input", theirs->input, mine->input);
    if (memcmp(theirs, mine, sizeof *mine) != 0)
        return differ(path, "model or options", "others", "these");
    return EMBED_OK;
}

embed_status emb_ngram_state_read(const emb_ngram_work *w, const emb_ngram_count_identity *mine,
                                  emb_ngram_state *state, int *found) {
    embed_status st = EMBED_OK;
    uint64_t size;
    int fd = -1;
    EMB_TRY(emb_file_exists(w->state_path, found));
    if (!*found)
        return EMBED_OK;
    EMB_TRY(emb_file_open(w->state_path, &fd, &size));
    if (size != sizeof *state) {
        st = emb_fail(EMBED_ERR_FORMAT,
                      "%s: expected %zu bytes, found %llu; remove it and start afresh",
                      w->state_path, sizeof *state, (unsigned long long)size);
        goto fail;
    }
    EMB_TRY(emb_file_read_at(fd, w->state_path, 0, state, sizeof *state));
    if (state->magic != STATE_MAGIC || state->version != STATE_VERSION ||
        state->checksum != state_checksum(state) || state->lengths < 1 ||
        state->lengths > EMB_NGRAM_MAX_K)
        st = emb_fail(EMBED_ERR_FORMAT, "%s: the file is damaged; remove it and start afresh",
                      w->state_path);
    else
        st = same_job(w->state_path, &state->identity, mine);
fail:
    emb_file_close(fd);
    return st;
}

embed_status emb_ngram_state_write(const emb_ngram_work *w, emb_ngram_state *state) {
    state->magic = STATE_MAGIC;
    state->version = STATE_VERSION;
    state->checksum = state_checksum(state);
    if (unlink(w->next_path) != 0 && errno != ENOENT)
        return emb_file_fail(w->next_path, "cannot replace");
    const embed_status st = emb_durable_write(w->next_path, state, sizeof *state);
    return st != EMBED_OK ? st : emb_durable_rename(&w->env, w->next_path, w->state_path);
}

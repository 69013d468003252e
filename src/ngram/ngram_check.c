#define _DEFAULT_SOURCE
#include "ngram/ngram_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "ngram/ngram_builder.h"
#include "ngram/ngram_checking.h"
#include "ngram/ngram_parts.h"
#include "ngram/ngram_path.h"

#define MAX_TOLD 100 /* problems that are told of one by one */

void emb_ngram_checking_note(emb_ngram_checking *c, const char *file, embed_status status) {
    const char *said = emb_fail_sentence();
    if (c->result->problems++ == 0) {
        c->first = status;
        (void)snprintf(c->first_problem, sizeof c->first_problem, "%s", said);
    }
    if (c->params->problem != NULL && c->result->problems <= MAX_TOLD)
        c->params->problem(c->params->problem_user, file, said);
}

/* Failures of the machine end the check; what is wrong with the table is noted. */
static int is_finding(embed_status st) {
    return st == EMBED_ERR_FORMAT || st == EMBED_ERR_TRUNCATED || st == EMBED_ERR_MISMATCH ||
           st == EMBED_ERR_UNSUPPORTED || st == EMBED_ERR_IO;
}

/* ------------------------------------------------------------------------------ files */

static embed_status check_header(const emb_ngram_checking *c, const char *path, int fd,
                                 const char *name) {
    emb_ngram_file_header h;
    const int index = strcmp(name, "index.bin") == 0;
    if (!index && strncmp(name, "rows-", 5) != 0)
        return EMBED_OK;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_file_read_at(fd, path, 0, &h, sizeof h));
    EMB_TRY(emb_ngram_header_check(&h, index ? EMB_NGRAM_INDEX_MAGIC : EMB_NGRAM_ROWS_MAGIC, path));
    if (memcmp(h.table_id, c->manifest.table_id, sizeof h.table_id) != 0)
        st = emb_fail(EMBED_ERR_MISMATCH,
                      "%s: belongs to another table than the manifest beside it", path);
fail:
    return st;
}

/* Is it there, a file that nobody else may change, as long as it was, and what it says it is? */
static embed_status check_file(const emb_ngram_checking *c, const emb_ngram_file *f) {
    embed_status st = EMBED_OK;
    char *path = NULL;
    uint64_t size;
    int fd = -1;
    EMB_TRY(emb_file_join(&c->env, c->dir, f->name, &path));
    EMB_TRY(emb_file_open(path, &fd, &size));
    if (size != f->bytes) {
        st = emb_fail(size < f->bytes ? EMBED_ERR_TRUNCATED : EMBED_ERR_FORMAT,
                      "%s: expected %" PRIu64 " bytes, found %" PRIu64, path, f->bytes, size);
        goto fail;
    }
    EMB_TRY(check_header(c, path, fd, f->name));
    if ((c->params->flags & EMBED_TABLE_ALLOW_UNSAFE) == 0)
        EMB_TRY(emb_ngram_path_check(path, fd));
fail:
    emb_file_close(fd);
    emb_free(&c->env, path);
    return st;
}

static embed_status check_files(emb_ngram_checking *c) {
    for (size_t i = 0; i < c->manifest.n_files; i++) {
        const emb_ngram_file *f = &c->manifest.files[i];
        const embed_status st = check_file(c, f);
        if (st != EMBED_OK && !is_finding(st))
            return st;
        if (st != EMBED_OK)
            emb_ngram_checking_note(c, f->name, st);
        c->result->files++;
        c->total_bytes += f->bytes;
    }
    return EMBED_OK;
}

/* ------------------------------------------------------------------------------ contents */

/* Without the key there still is the digest of the sealed bytes. */
static embed_status check_sealed_index(emb_ngram_checking *c) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_pool_create(&c->pool, &c->env, 1));
    for (size_t i = 0; i < c->manifest.n_files && st == EMBED_OK; i++)
        if (strcmp(c->manifest.files[i].name, "index.bin") == 0)
            st = emb_ngram_check_digest(c, &c->manifest.files[i]);
fail:
    return st;
}

/* Opening checks what is left: the parts against each other, the bits of the index. */
static embed_status open_table(emb_ngram_checking *c, const char *path) {
    const embed_verify_params *v = c->params;
    const embed_table_params p = {.struct_size = sizeof p,
                                  .mode = EMBED_TABLE_READ,
                                  .io = EMBED_TABLE_IO_PREAD,
                                  .flags = v->flags | EMBED_TABLE_ALLOW_MISMATCH,
                                  .cache_bytes = 1,
                                  .key_path = v->key_path,
                                  .key = v->key,
                                  .key_user = v->key_user};
    uint8_t key[32];
    int given;
    /* A bad key file is nobody's fault but the caller's. */
    embed_status st = emb_ngram_key_get(&c->env, v->key_path, v->key, v->key_user, key, &given);
    explicit_bzero(key, sizeof key);
    if (st != EMBED_OK)
        return st;
    if (c->manifest.encrypted && !given && !v->full)
        return check_sealed_index(c);
    st = emb_ngram_table_open(&c->table, &c->env, path, &p, NULL);
    if (st != EMBED_OK && is_finding(st)) {
        if (c->result->problems == 0) /* else what it says was said before */
            emb_ngram_checking_note(c, "table", st);
        return EMBED_OK;
    }
    return st;
}

static embed_status check_contents(emb_ngram_checking *c) {
    const emb_ngram_manifest *m = &c->manifest;
    embed_status st = EMBED_OK;
    char part[32];
    uint32_t number = 0;
    if (c->table != NULL) {
        EMB_TRY(emb_new_array(&c->env, (size_t)m->n_buckets, 1, (void **)&c->seen));
        EMB_TRY(emb_new_array(&c->env, (size_t)m->n_buckets, 1, (void **)&c->parts));
    }
    for (size_t i = 0; i < m->n_files; i++) {
        emb_ngram_part_name(number, part);
        if (strcmp(m->files[i].name, part) == 0)
            EMB_TRY(emb_ngram_check_part(c, number++, &m->files[i]));
        else
            EMB_TRY(emb_ngram_check_digest(c, &m->files[i]));
    }
    if (c->table != NULL)
        emb_ngram_check_entries(c);
fail:
    return st;
}

static embed_status read_manifest(emb_ngram_checking *c, const emb_ngram_binding *binding) {
    char *path = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_file_join(&c->env, c->dir, "manifest.json", &path));
    EMB_TRY(emb_ngram_manifest_read(&c->manifest, &c->env, path));
    EMB_TRY(emb_ngram_manifest_intact(&c->manifest, c->dir));
    c->result->rows = c->manifest.rows;
    c->result->index_entries = c->manifest.keys;
    if (binding != NULL && emb_ngram_binding_check(&c->manifest, binding, c->dir) != EMBED_OK)
        emb_ngram_checking_note(c, "manifest.json", EMBED_ERR_MISMATCH);
fail:
    emb_free(&c->env, path);
    return st;
}

static embed_status run(emb_ngram_checking *c, const char *path, const emb_ngram_binding *binding) {
    const int unsafe = (c->params->flags & EMBED_TABLE_ALLOW_UNSAFE) != 0;
    const int threads = c->params->job.threads;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_path_resolve(&c->dir, &c->env, path, unsafe));
    st = read_manifest(c, binding);
    if (st != EMBED_OK && is_finding(st)) {
        emb_ngram_checking_note(c, "manifest.json", st);
        return EMBED_OK; /* nothing else can be judged without it */
    }
    if (st != EMBED_OK)
        goto fail;
    c->teller.memory_bytes =
        c->manifest.n_buckets * sizeof(emb_ngram_bucket) + (c->params->full ? 16u << 20 : 0);
    EMB_TRY(emb_ngram_tell(&c->teller, "begin", "bytes", 0, 0));
    EMB_TRY(check_files(c));
    EMB_TRY(open_table(c, path));
    if (c->params->full) {
        EMB_TRY(emb_pool_create(&c->pool, &c->env, threads > 0 ? threads : emb_usable_cpus()));
        EMB_TRY(check_contents(c));
    }
fail:
    return st;
}

embed_status emb_ngram_check(const emb_env *env, const char *path, const emb_ngram_binding *binding,
                             const embed_verify_params *params, embed_verify_result *result) {
    emb_ngram_checking *c;
    embed_status st = emb_new(env, sizeof *c, (void **)&c);
    *result = (embed_verify_result){0};
    if (st != EMBED_OK)
        return st;
    c->env = *env;
    c->params = params;
    c->result = result;
    c->teller.job = &params->job;
    st = run(c, path, binding);
    if (st == EMBED_OK && result->problems > 0) {
        st = c->first;
        if (result->problems == 1)
            (void)emb_fail(st, "%s", c->first_problem);
        else
            (void)emb_fail(st, "%s (and %" PRIu64 " more)", c->first_problem, result->problems - 1);
    }
    emb_pool_free(c->pool);
    emb_ngram_table_release(c->table);
    emb_ngram_manifest_clear(&c->manifest, env);
    emb_free(env, c->seen);
    emb_free(env, c->parts);
    emb_free(env, c->dir);
    emb_free(env, c);
    return st;
}

#define _DEFAULT_SOURCE
#include "ngram/ngram_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/durable.h"
#include "io/file.h"
#include "ngram/ngram_check.h"
#include "ngram/ngram_copy.h"
#include "ngram/ngram_path.h"

#define LOCK ".lock"
#define INCOMING ".incoming" /* a version on its way; of a killed run if nobody has the lock */
#define NEW_LINK ".current-new"
#define MAX_VERSION 999999

typedef struct store {
    emb_env env;
    const char *path;
    int lock;
    int32_t current;   /* number of the version in use, 0: none */
    int32_t *versions; /* ascending */
    size_t n, capacity;
} store;

static void name_of(int32_t version, char out[32]) {
    (void)snprintf(out, 32, "v%06d", version);
}

/* 0 unless it is exactly the name of a version. */
static int32_t version_of(const char *name) {
    char again[32];
    if (name[0] != 'v' || strlen(name) != 7 || strspn(name + 1, "0123456789") != 6)
        return 0;
    const int32_t version = (int32_t)strtol(name + 1, NULL, 10);
    name_of(version, again);
    return strcmp(name, again) == 0 ? version : 0;
}

static int compare(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static embed_status read_current(store *s) {
    char target[64], *link = NULL;
    const embed_status st = emb_file_join(&s->env, s->path, "current", &link);
    if (st != EMBED_OK)
        return st;
    const ssize_t n = readlink(link, target, sizeof target - 1);
    s->current = 0;
    if (n > 0) {
        target[n] = '\0';
        s->current = version_of(target);
    }
    emb_free(&s->env, link);
    return EMBED_OK;
}

static embed_status read_versions(store *s) {
    embed_status st = read_current(s);
    if (st != EMBED_OK)
        return st;
    DIR *d = opendir(s->path);
    if (d == NULL)
        return emb_file_fail(s->path, "cannot list");
    for (const struct dirent *e; st == EMBED_OK && (e = readdir(d)) != NULL;) {
        const int32_t version = version_of(e->d_name);
        if (version > 0)
            st = emb_grow(&s->env, (void **)&s->versions, &s->capacity, s->n + 1,
                          sizeof *s->versions);
        if (version > 0 && st == EMBED_OK)
            s->versions[s->n++] = version;
    }
    (void)closedir(d);
    if (s->n > 0)
        qsort(s->versions, s->n, sizeof *s->versions, compare);
    return st;
}

static void close_store(store *s) {
    emb_file_close(s->lock); /* releases it, as death would */
    emb_free(&s->env, s->versions);
    s->lock = -1;
    s->versions = NULL;
}

/* With the lock, so that nobody else changes the store. */
static embed_status open_store(store *s, const emb_env *env, const char *path) {
    char *lock = NULL, *manifest = NULL;
    int is_table;
    embed_status st = EMBED_OK;
    *s = (store){.env = *env, .path = path, .lock = -1};
    EMB_TRY(emb_file_join(env, path, LOCK, &lock));
    EMB_TRY(emb_file_join(env, path, "manifest.json", &manifest));
    EMB_TRY(emb_file_exists(manifest, &is_table));
    if (is_table) {
        st = emb_fail(EMBED_ERR_ARG, "%s: is a table; expected a store of tables", path);
        goto fail;
    }
    s->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (s->lock < 0)
        st = emb_file_fail(lock, "cannot open");
    else if (flock(s->lock, LOCK_EX | LOCK_NB) != 0)
        st = errno == EWOULDBLOCK
                 ? emb_fail(EMBED_ERR_IO, "%s: another process is changing the store", path)
                 : emb_file_fail(lock, "cannot lock");
    else
        st = read_versions(s);
fail:
    emb_free(env, lock);
    emb_free(env, manifest);
    if (st != EMBED_OK)
        close_store(s);
    return st;
}

/* The link is made beside the old one and renamed over it: readers see one or the other. */
static embed_status point_at(store *s, const char *version) {
    char *link = NULL, *fresh = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_file_join(&s->env, s->path, "current", &link));
    EMB_TRY(emb_file_join(&s->env, s->path, NEW_LINK, &fresh));
    if ((unlink(fresh) != 0 && errno != ENOENT) || symlink(version, fresh) != 0)
        st = emb_file_fail(fresh, "cannot make the link");
    else if (rename(fresh, link) != 0)
        st = emb_file_fail(link, "cannot swap the link");
    else
        st = emb_durable_sync_dir(s->path);
fail:
    emb_free(&s->env, link);
    emb_free(&s->env, fresh);
    return st;
}

/* What a killed run left; directories of ours are flat. */
static embed_status remove_incoming(const store *s, const char *dir) {
    embed_status st = EMBED_OK;
    DIR *d = opendir(dir);
    if (d == NULL)
        return errno == ENOENT ? EMBED_OK : emb_file_fail(dir, "cannot list");
    for (const struct dirent *e; st == EMBED_OK && (e = readdir(d)) != NULL;) {
        char *file;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        st = emb_file_join(&s->env, dir, e->d_name, &file);
        if (st == EMBED_OK && unlink(file) != 0)
            st = emb_file_fail(file, "cannot remove");
        emb_free(&s->env, file);
    }
    (void)closedir(d);
    if (st == EMBED_OK && rmdir(dir) != 0)
        st = emb_file_fail(dir, "cannot remove");
    return st;
}

/* Headers, sizes and the index; without its key an encrypted index is checked by its digest, when
 * it is copied. */
static embed_status check_table(const emb_env *env, const char *table,
                                const embed_publish_params *p) {
    embed_verify_params v = {.struct_size = sizeof v,
                             .flags = p->flags,
                             .key_path = p->key_path,
                             .key = p->key,
                             .key_user = p->key_user};
    embed_verify_result r;
    v.job.threads = 1;
    return emb_ngram_check(env, table, NULL, &v, &r);
}

static embed_status bring_in(store *s, const char *table, const emb_ngram_manifest *m,
                             const embed_publish_params *p, const char *version) {
    emb_ngram_teller teller = {.job = &p->job};
    char *incoming = NULL, *home = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_file_join(&s->env, s->path, INCOMING, &incoming));
    EMB_TRY(emb_file_join(&s->env, s->path, version, &home));
    EMB_TRY(remove_incoming(s, incoming));
    if (p->move) {
        if (rename(table, home) != 0) {
            st = emb_file_fail(table, errno == EXDEV ? "is on another file system: copy it"
                                                     : "cannot be moved into the store");
            goto fail;
        }
        EMB_TRY(emb_durable_sync_dir(s->path));
        goto fail;
    }
    for (size_t i = 0; i < m->n_files; i++)
        teller.disk_bytes += m->files[i].bytes;
    EMB_TRY(emb_ngram_tell(&teller, "begin", "bytes", 0, teller.disk_bytes));
    if (mkdir(incoming, 0755) != 0) {
        st = emb_file_fail(incoming, "cannot create");
        goto fail;
    }
    st = emb_ngram_copy(&s->env, table, incoming, m, &teller);
    if (st == EMBED_OK && rename(incoming, home) != 0)
        st = emb_file_fail(home, "cannot rename to it");
    if (st == EMBED_OK)
        st = emb_durable_sync_dir(s->path);
    else
        (void)remove_incoming(s, incoming);
fail:
    emb_free(&s->env, incoming);
    emb_free(&s->env, home);
    return st;
}

embed_status emb_ngram_store_publish(const emb_env *env, const char *path, const char *table,
                                     const embed_publish_params *p, char version[32]) {
    embed_status st = EMBED_OK;
    store s = {.lock = -1};
    emb_ngram_manifest m = {0};
    char *dir = NULL, *manifest = NULL;
    const int unsafe = (p->flags & EMBED_TABLE_ALLOW_UNSAFE) != 0;
    EMB_TRY(emb_ngram_path_resolve(&dir, env, table, unsafe));
    EMB_TRY(emb_file_join(env, dir, "manifest.json", &manifest));
    if (p->move && strncmp(dir, table, strlen(dir)) != 0) {
        st = emb_fail(EMBED_ERR_ARG, "%s: is a store; its versions cannot be moved", table);
        goto fail;
    }
    EMB_TRY(emb_ngram_manifest_read(&m, env, manifest));
    EMB_TRY(check_table(env, dir, p));
    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
        st = emb_file_fail(path, "cannot create");
        goto fail;
    }
    EMB_TRY(open_store(&s, env, path));
    const int32_t next = (s.n > 0 ? s.versions[s.n - 1] : 0) + 1;
    if (next > MAX_VERSION) {
        st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: has had %d versions", path, MAX_VERSION);
        goto fail;
    }
    name_of(next, version);
    EMB_TRY(bring_in(&s, dir, &m, p, version));
    EMB_TRY(point_at(&s, version));
fail:
    emb_ngram_manifest_clear(&m, env);
    emb_free(env, dir);
    emb_free(env, manifest);
    if (s.lock >= 0)
        close_store(&s);
    return st;
}

/* The version asked for: "v000003", "3", or NULL for the one before the current one. */
static embed_status choose(const store *s, const char *asked, char out[32]) {
    int32_t wanted = 0;
    if (asked == NULL) {
        for (size_t i = 0; i < s->n; i++)
            if (s->versions[i] < s->current)
                wanted = s->versions[i];
        if (wanted == 0)
            return emb_fail(EMBED_ERR_ARG, "%s: there is no version before the current one",
                            s->path);
    } else {
        const char *digits = asked[0] == 'v' ? asked + 1 : asked;
        for (size_t i = 0; i < s->n; i++)
            if (strlen(digits) < 8 && strspn(digits, "0123456789") == strlen(digits) &&
                strtol(digits, NULL, 10) == s->versions[i])
                wanted = s->versions[i];
        if (wanted == 0)
            return emb_fail(EMBED_ERR_ARG, "%s: has no version %s", s->path, asked);
    }
    name_of(wanted, out);
    return EMBED_OK;
}

embed_status emb_ngram_store_rollback(const emb_env *env, const char *path, const char *version,
                                      char now[32]) {
    store s;
    char *dir = NULL;
    const embed_publish_params none = {.struct_size = sizeof none};
    embed_status st = open_store(&s, env, path);
    if (st != EMBED_OK)
        return st;
    EMB_TRY(choose(&s, version, now));
    EMB_TRY(emb_file_join(env, path, now, &dir));
    EMB_TRY(check_table(env, dir, &none));
    EMB_TRY(point_at(&s, now));
fail:
    emb_free(env, dir);
    close_store(&s);
    return st;
}

static embed_status describe(const store *s, int32_t version, embed_store_version *out) {
    emb_ngram_manifest m = {0};
    char *dir = NULL, *manifest = NULL;
    embed_status st = EMBED_OK;
    *out = (embed_store_version){.current = version == s->current};
    name_of(version, out->name);
    EMB_TRY(emb_file_join(&s->env, s->path, out->name, &dir));
    EMB_TRY(emb_file_join(&s->env, dir, "manifest.json", &manifest));
    EMB_TRY(emb_ngram_manifest_read(&m, &s->env, manifest));
    for (int i = 0; i < 16; i++)
        (void)snprintf(out->id + 2 * i, 3, "%02x", m.table_id[i]);
    out->rows = m.rows;
    for (size_t i = 0; i < m.n_files; i++)
        out->bytes += m.files[i].bytes;
    if (m.provenance.created != NULL)
        (void)snprintf(out->created, sizeof out->created, "%s", m.provenance.created);
fail:
    emb_ngram_manifest_clear(&m, &s->env);
    emb_free(&s->env, dir);
    emb_free(&s->env, manifest);
    return st;
}

embed_status emb_ngram_store_list(const emb_env *env, const char *path,
                                  embed_store_version *versions, size_t cap, size_t *n) {
    store s = {.env = *env, .path = path, .lock = -1};
    embed_status st = EMBED_OK;
    EMB_TRY(read_versions(&s));
    *n = s.n;
    if (s.n > cap && versions != NULL)
        st = emb_fail(EMBED_ERR_CAPACITY, "%s: has %zu versions, there is room for %zu", path, s.n,
                      cap);
    for (size_t i = 0; st == EMBED_OK && versions != NULL && i < s.n; i++)
        st = describe(&s, s.versions[i], &versions[i]);
fail:
    emb_free(env, s.versions);
    return st;
}

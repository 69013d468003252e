/* LMDB, what the SCONE paper keeps its table in: token ids, big-endian, to the number or the bytes
 * of the vector; longest n-gram first, one get each. */
#define _GNU_SOURCE
#include "ngram_peer.h"

#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_BYTES ((size_t)1 << 40)
#define PUTS_PER_COMMIT 50000

struct lmdb {
    MDB_env *env;
    MDB_dbi dbi;
    char path[512];
};

typedef struct key {
    unsigned char bytes[4 * EMB_NGRAM_MAX_K];
} key;

static int failed(const char *what, int code) {
    fprintf(stderr, "lmdb: %s: %s\n", what, mdb_strerror(code));
    return 0;
}

static MDB_val make_key(key *k, const uint32_t *ids, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        for (int b = 0; b < 4; b++)
            k->bytes[4 * i + b] = (unsigned char)(ids[i] >> (24 - 8 * b));
    return (MDB_val){(size_t)n * 4, k->bytes};
}

/* The order of LMDB's keys: bytes, then length. */
static int by_key(const void *a, const void *b, void *arg) {
    const emb_ngram_fgram *g = arg, *x = &g[*(const uint32_t *)a], *y = &g[*(const uint32_t *)b];
    for (int i = 0; i < x->length && i < y->length; i++)
        if (x->ids[i] != y->ids[i])
            return x->ids[i] < y->ids[i] ? -1 : 1;
    return x->length - y->length;
}

static int open_env(struct lmdb *l, unsigned flags) {
    int code = mdb_env_create(&l->env);
    if (code == 0)
        code = mdb_env_set_mapsize(l->env, MAP_BYTES);
    if (code == 0)
        code = mdb_env_open(l->env, l->path, flags | MDB_NOSUBDIR | MDB_NOTLS, 0644);
    return code == 0 ? 1 : failed(l->path, code);
}

static int put(struct lmdb *l, MDB_txn *txn, const peer_data *d, uint32_t row, uint16_t *vector) {
    key k;
    uint64_t number = row;
    MDB_val name = make_key(&k, d->grams[row].ids, d->grams[row].length);
    MDB_val value = {sizeof number, &number};
    if (d->width > 0) {
        peer_vector_f16(row, d->width, vector);
        value = (MDB_val){(size_t)d->width * sizeof *vector, vector};
    }
    return mdb_put(txn, l->dbi, &name, &value, MDB_APPEND);
}

static int put_all(struct lmdb *l, const peer_data *d, const uint32_t *order, uint16_t *vector) {
    MDB_txn *txn = NULL;
    int code = 0;
    for (size_t i = 0; i <= d->n && code == 0; i++) {
        if (txn != NULL && (i % PUTS_PER_COMMIT == 0 || i == d->n)) {
            code = mdb_txn_commit(txn);
            txn = NULL;
        }
        if (i == d->n || code != 0)
            break;
        if (txn == NULL)
            code = mdb_txn_begin(l->env, NULL, 0, &txn);
        if (i == 0 && code == 0)
            code = mdb_dbi_open(txn, NULL, 0, &l->dbi);
        if (code == 0)
            code = put(l, txn, d, order[i], vector);
    }
    if (txn != NULL)
        mdb_txn_abort(txn);
    return code == 0 ? 1 : failed("put", code);
}

static int reopen(struct lmdb *l) {
    MDB_txn *txn;
    if (l->env != NULL)
        mdb_env_close(l->env);
    l->env = NULL;
    if (!open_env(l, MDB_RDONLY | MDB_NOLOCK | MDB_NORDAHEAD))
        return 0;
    int code = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn);
    if (code == 0)
        code = mdb_dbi_open(txn, NULL, 0, &l->dbi);
    if (code == 0)
        code = mdb_txn_commit(txn);
    return code == 0 ? 1 : failed("open", code);
}

static int build(peer *p) {
    const peer_data *d = p->data;
    struct lmdb *l = p->state = calloc(1, sizeof *l);
    uint32_t *order = malloc((d->n + 1) * sizeof *order);
    uint16_t *vector = malloc(((size_t)d->width + 1) * sizeof *vector);
    struct stat info;
    int good = l != NULL && order != NULL && vector != NULL;
    for (size_t i = 0; good && i < d->n; i++)
        order[i] = (uint32_t)i;
    if (good) {
        qsort_r(order, d->n, sizeof *order, by_key, (void *)(uintptr_t)d->grams);
        (void)snprintf(l->path, sizeof l->path, "%s/%s.mdb", d->dir, d->width ? "rows" : "keys");
        good = open_env(l, MDB_NOSYNC) && put_all(l, d, order, vector) &&
               mdb_env_sync(l->env, 1) == 0 && reopen(l) && stat(l->path, &info) == 0;
    }
    if (good)
        p->disk_bytes = (uint64_t)info.st_size;
    free(order);
    free(vector);
    return good;
}

static int drop(peer *p) {
    struct lmdb *l = p->state;
    mdb_env_close(l->env);
    l->env = NULL;
    const int fd = open(l->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        perror(l->path);
    if (fd >= 0)
        close(fd);
    return reopen(l);
}

/* The value of the longest n-gram that ends at ids[at]; 0: none. */
static int longest(const struct lmdb *l, MDB_txn *txn, int32_t k_max, const int32_t *ids, size_t at,
                   MDB_val *value) {
    for (int32_t n = at + 1 < (size_t)k_max ? (int32_t)(at + 1) : k_max; n >= 2; n--) {
        key k;
        MDB_val name = make_key(&k, (const uint32_t *)ids + at + 1 - n, n);
        if (mdb_get(txn, l->dbi, &name, value) == 0)
            return 1;
    }
    return 0;
}

static int look_up(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                   uint32_t *rows) {
    struct lmdb *l = p->state;
    MDB_txn *txn;
    int code = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return failed("read", code);
    for (size_t t = 0; t < texts; t++)
        for (int32_t i = offsets[t]; i < offsets[t + 1]; i++) {
            MDB_val value;
            uint64_t number = UINT32_MAX;
            if (longest(l, txn, p->data->k, ids + offsets[t], (size_t)(i - offsets[t]), &value))
                memcpy(&number, value.mv_data, sizeof number);
            rows[i] = (uint32_t)number;
        }
    mdb_txn_abort(txn);
    return 1;
}

static long fetch_texts(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                        float *out) {
    struct lmdb *l = p->state;
    MDB_txn *txn;
    long hits = 0;
    int code = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return failed("read", code) - 1;
    for (size_t t = 0; t < texts; t++)
        for (int32_t i = offsets[t]; i < offsets[t + 1]; i++) {
            MDB_val value;
            if (longest(l, txn, p->data->k, ids + offsets[t], (size_t)(i - offsets[t]), &value))
                peer_widen(value.mv_data, p->data->width, out + hits++ * p->data->width);
        }
    mdb_txn_abort(txn);
    return hits;
}

static int fetch_grams(peer *p, const uint32_t *which, size_t n, float *out) {
    struct lmdb *l = p->state;
    const peer_data *d = p->data;
    MDB_txn *txn;
    int code = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return failed("read", code);
    for (size_t i = 0; i < n && code == 0; i++) {
        key k;
        MDB_val value;
        const emb_ngram_fgram *g = &d->grams[which[i]];
        MDB_val name = make_key(&k, g->ids, g->length);
        code = mdb_get(txn, l->dbi, &name, &value);
        if (code == 0)
            peer_widen(value.mv_data, d->width, out + i * (size_t)d->width);
    }
    mdb_txn_abort(txn);
    return code == 0 ? 1 : failed("get", code);
}

static void close_lmdb(peer *p) {
    struct lmdb *l = p->state;
    if (l != NULL && l->env != NULL)
        mdb_env_close(l->env);
    free(l);
    p->state = NULL;
}

peer peer_lmdb(const peer_data *data) {
    const int numbers = data->width == 0;
    return (peer){.name = "LMDB",
                  .data = data,
                  .build = build,
                  .drop = drop,
                  .look_up = numbers ? look_up : NULL,
                  .fetch_texts = numbers ? NULL : fetch_texts,
                  .fetch_grams = numbers ? NULL : fetch_grams,
                  .close = close_lmdb};
}

#define _GNU_SOURCE
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ngram/ngram_index.h"
#include "ngram/ngram_writing.h"

#define PIECE ((size_t)1 << 15) /* n-grams asked for at once */
#define MAX_SEEDS 64            /* a second one is needed once in 1e9 keys squared / 2^67 */

uint64_t emb_ngram_index_memory(uint64_t rows, double load) {
    uint64_t buckets;
    if (emb_ngram_index_buckets(rows, load, &buckets) != EMBED_OK)
        return UINT64_MAX;
    return buckets * sizeof(emb_ngram_bucket) + PIECE * sizeof(emb_ngram_fgram);
}

typedef struct filling {
    emb_ngram_writing *w;
    emb_ngram_filler f;
    emb_ngram_fgram *piece;
    size_t bytes;
} filling;

static embed_status recall(void *user, uint32_t row, emb_ngram_fgram *out) {
    const emb_ngram_source *s = user;
    return s->fgrams(s->user, row, 1, out);
}

static void unmap(filling *x) {
    if (x->f.buckets != NULL)
        munmap(x->f.buckets, x->bytes);
    x->f.buckets = NULL;
}

static embed_status map(filling *x, uint64_t n_buckets) {
    unmap(x);
    embed_status st = emb_mul((size_t)n_buckets, sizeof(emb_ngram_bucket), "index", &x->bytes);
    if (st != EMBED_OK)
        return st;
    const uint64_t allowed =
        x->w->params->memory != 0 ? x->w->params->memory : EMB_NGRAM_WRITE_MEMORY;
    if (x->bytes > allowed)
        return emb_fail(EMBED_ERR_ARG,
                        "memory: the index, with its entries for suffixes that have no row, needs "
                        "%zu bytes, allowed are %" PRIu64,
                        x->bytes, allowed);
    void *p = mmap(NULL, x->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return emb_fail(EMBED_ERR_NOMEM, "no memory for an index of %zu bytes", x->bytes);
    (void)madvise(p, x->bytes, MADV_HUGEPAGE); /* a hint: halves the time of random writes */
    x->f.buckets = p;
    x->f.n_buckets = n_buckets;
    return EMBED_OK;
}

static embed_status explain(const filling *x, embed_status st) {
    const emb_ngram_source *s = x->w->source;
    if (st == EMBED_ERR_FORMAT && x->f.same[1] != 0 && s->explain_same != NULL)
        return s->explain_same(s->user, x->f.same[1], x->f.same[0]);
    return st;
}

static embed_status count_lengths(const emb_ngram_fgram *g, size_t n, uint64_t first,
                                  uint64_t by_length[EMB_NGRAM_MAX_K + 1]) {
    for (size_t i = 0; i < n; i++) {
        if (g[i].length < 2 || g[i].length > EMB_NGRAM_MAX_K)
            return emb_fail(EMBED_ERR_FORMAT,
                            "row %" PRIu64 ": expected 2 to %d token ids, found %d", first + i,
                            EMB_NGRAM_MAX_K, g[i].length);
        by_length[g[i].length]++;
    }
    return EMBED_OK;
}

/* Both passes over all n-grams. */
static embed_status fill(filling *x) {
    static const char *const phases[] = {"index n-grams", "link suffixes"};
    emb_ngram_writing *w = x->w;
    const emb_ngram_source *s = w->source;
    embed_status st = EMBED_OK;
    uint64_t *by_length = w->manifest.length_rows;
    x->f.keys = 0;
    x->f.clash = 0;
    memset(by_length, 0, sizeof w->manifest.length_rows);
    for (int pass = 0; pass < 2; pass++)
        for (uint64_t first = 0; first < s->rows && !x->f.clash;) {
            const size_t n = s->rows - first < PIECE ? (size_t)(s->rows - first) : PIECE;
            EMB_TRY(s->fgrams(s->user, first, n, x->piece));
            if (pass == 0)
                EMB_TRY(count_lengths(x->piece, n, first, by_length));
            EMB_TRY(pass == 0 ? emb_ngram_filler_add(&x->f, x->piece, (uint32_t)first, n)
                              : emb_ngram_filler_link(&x->f, x->piece, n));
            first += n;
            EMB_TRY(emb_ngram_writing_tell(w, phases[pass], first, s->rows));
        }
fail:
    return explain(x, st);
}

/* With the next seed as long as two keys cannot be told apart. */
static embed_status fill_without_clash(filling *x, uint64_t n_buckets) {
    for (x->f.seed = 1; x->f.seed <= MAX_SEEDS; x->f.seed++) {
        embed_status st = map(x, n_buckets);
        if (st == EMBED_OK)
            st = fill(x);
        if (st != EMBED_OK || !x->f.clash)
            return st;
    }
    return emb_fail(EMBED_ERR_INTERNAL, "index: no seed tells all n-grams apart");
}

/* The number of path entries is known only afterwards: if there were many, once more with as many
 * buckets as they need. */
static embed_status fill_to_load(filling *x, double load) {
    const uint64_t rows = x->w->source->rows;
    uint64_t n_buckets, needed;
    embed_status st;
    EMB_TRY(emb_ngram_index_buckets(rows, load, &n_buckets));
    while ((st = fill_without_clash(x, n_buckets)) == EMBED_ERR_CAPACITY)
        n_buckets += n_buckets / 2 + 1;
    if (st != EMBED_OK)
        goto fail;
    EMB_TRY(emb_ngram_index_buckets(x->f.keys, load, &needed));
    if (needed > n_buckets + n_buckets / 32 || n_buckets > needed + needed / 32)
        EMB_TRY(fill_without_clash(x, needed));
fail:
    return st;
}

static embed_status put_plain(emb_ngram_writing *w, emb_ngram_sink *s, const unsigned char *data,
                              size_t bytes) {
    embed_status st = EMBED_OK;
    for (size_t at = 0; at < bytes && st == EMBED_OK;) {
        const size_t left = bytes - at, most = (size_t)4 << 20;
        const size_t here = left < most ? left : most;
        st = emb_ngram_sink_put(s, data + at, here);
        at += here;
        if (st == EMBED_OK)
            st = emb_ngram_writing_tell(w, "write index", at, bytes);
    }
    return st;
}

/* In place: the buckets are not needed afterwards. */
static embed_status put_sealed(emb_ngram_writing *w, emb_ngram_sink *s, unsigned char *data,
                               size_t bytes) {
    embed_status st = EMBED_OK;
    const size_t chunks = (bytes + EMB_NGRAM_INDEX_CHUNK - 1) / EMB_NGRAM_INDEX_CHUNK;
    unsigned char(*tags)[EMB_NGRAM_TAG_BYTES] = NULL;
    EMB_TRY(emb_new_array(&w->env, chunks, sizeof *tags, (void **)&tags));
    for (size_t i = 0; i < chunks; i++) {
        unsigned char *at = data + i * EMB_NGRAM_INDEX_CHUNK;
        const size_t left = bytes - i * EMB_NGRAM_INDEX_CHUNK;
        EMB_TRY(emb_ngram_cipher_seal(w->cipher, EMB_NGRAM_INDEX_PART, i, at,
                                      left < EMB_NGRAM_INDEX_CHUNK ? left : EMB_NGRAM_INDEX_CHUNK,
                                      at, tags[i]));
    }
    EMB_TRY(put_plain(w, s, data, bytes));
    EMB_TRY(emb_ngram_sink_put(s, tags, chunks * sizeof *tags));
fail:
    emb_free(&w->env, tags);
    return st;
}

static embed_status put_index(filling *x) {
    emb_ngram_writing *w = x->w;
    emb_ngram_sink sink;
    emb_ngram_file_header h = {.magic = EMB_NGRAM_INDEX_MAGIC,
                               .payload_bytes = x->bytes,
                               .count = x->f.n_buckets,
                               .keys = x->f.keys,
                               .seed = x->f.seed,
                               .payload_checksum = XXH3_64bits(x->f.buckets, x->bytes)};
    unsigned char *data = (unsigned char *)x->f.buckets;
    embed_status st = emb_ngram_sink_open(&sink, w, "index.bin");
    if (st != EMBED_OK)
        return st;
    EMB_TRY(emb_ngram_sink_header(&sink, w, &h));
    EMB_TRY(w->cipher != NULL ? put_sealed(w, &sink, data, x->bytes)
                              : put_plain(w, &sink, data, x->bytes));
    EMB_TRY(emb_ngram_journal_add_index(&w->journal, x->f.keys, x->f.n_buckets, x->f.seed,
                                        w->manifest.length_rows));
    return emb_ngram_sink_finish(&sink, w);
fail:
    emb_ngram_sink_abandon(&sink, w);
    return st;
}

embed_status emb_ngram_write_index(emb_ngram_writing *w) {
    const double load = w->params->load > 0 ? w->params->load : EMB_NGRAM_LOAD;
    embed_status st = EMBED_OK;
    filling x = {.w = w, .f = {.recall = recall, .user = (void *)(uintptr_t)w->source}};
    if (emb_ngram_journal_find(&w->journal, "index.bin") == NULL) {
        EMB_TRY(emb_new_array(&w->env, PIECE, sizeof *x.piece, (void **)&x.piece));
        EMB_TRY(fill_to_load(&x, load));
        EMB_TRY(put_index(&x));
    }
    emb_ngram_manifest *m = &w->manifest;
    m->keys = w->journal.keys;
    m->n_buckets = w->journal.n_buckets;
    m->seed = w->journal.seed;
    memcpy(m->length_rows, w->journal.length_rows, sizeof m->length_rows);
    m->k = 2;
    for (int32_t n = 2; n <= EMB_NGRAM_MAX_K; n++)
        if (m->length_rows[n] > 0)
            m->k = n;
fail:
    unmap(&x);
    emb_free(&w->env, x.piece);
    return st;
}

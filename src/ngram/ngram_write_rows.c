#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ngram/ngram_parts.h"
#include "ngram/ngram_writing.h"

#define CHUNK_BYTES ((uint64_t)4 << 20) /* of vectors, read, encoded and written at once */
#define TASK_BYTES (128u << 10)         /* of blocks, encoded by one task */

/* Failures inside tasks: the message belongs to the thread that met it, so it is kept here. */
typedef struct trouble {
    embed_status status;
    uint64_t row; /* the first one, for the same message with any number of threads */
    char message[512];
} trouble;

/* Three chunks are under way at once: one is being read, one encoded, one written. */
typedef struct stage {
    uint64_t first; /* row */
    size_t rows;    /* 0: nothing */
} stage;

typedef struct pipeline {
    emb_ngram_writing *w;
    emb_ngram_sink sink;
    uint64_t next, end; /* rows of this part still to be read */
    uint64_t part_first;
    uint32_t part;
    uint32_t turn;
    size_t chunk_rows, blocks_per_task;
    stage read, encoded, written;
    emb_ngram_fgram *fgrams[2];
    float *vectors[2];
    unsigned char *blocks[2];
    unsigned char (*tags)[EMB_NGRAM_TAG_BYTES]; /* of the part */
    trouble io[3];                              /* read, write, digest */
    trouble *encode;                            /* by thread */
} pipeline;

static uint64_t chunk_rows_of(const emb_ngram_layout *l) {
    const uint64_t rows = CHUNK_BYTES / ((uint64_t)l->width * sizeof(float));
    return (rows / l->rows_per_block + 1) * l->rows_per_block;
}

uint64_t emb_ngram_rows_memory(const emb_ngram_layout *l, uint64_t rows_per_part) {
    const uint64_t rows = chunk_rows_of(l);
    return 2 * rows * ((uint64_t)l->width * sizeof(float) + sizeof(emb_ngram_fgram)) +
           2 * emb_ngram_rows_bytes(l, rows) +
           rows_per_part / l->rows_per_block * EMB_NGRAM_TAG_BYTES;
}

static void note(trouble *t, embed_status status, uint64_t row) {
    if (status == EMBED_OK || (t->status != EMBED_OK && t->row <= row))
        return;
    t->status = status;
    t->row = row;
    (void)snprintf(t->message, sizeof t->message, "%s", emb_fail_sentence());
}

static uint64_t blocks_of(const emb_ngram_layout *l, uint64_t rows) {
    return (rows + l->rows_per_block - 1) / l->rows_per_block;
}

/* One block: its rows, zeros to its end, and the seal. */
static void encode_block(pipeline *p, size_t number, trouble *t) {
    const emb_ngram_layout *l = &p->w->manifest.layout;
    const uint32_t at = p->turn % 2;
    const size_t first = number * l->rows_per_block, left = p->encoded.rows - first;
    const size_t rows = left < l->rows_per_block ? left : l->rows_per_block;
    unsigned char *block = p->blocks[at] + number * l->block_bytes;
    for (size_t i = 0; i < rows; i++) {
        const emb_ngram_fgram *g = &p->fgrams[at][first + i];
        const embed_status st = emb_ngram_row_encode(
            l, g->ids, g->length, g->count, p->vectors[at] + (first + i) * (size_t)l->width,
            block + i * l->row_bytes);
        if (st != EMBED_OK) {
            note(t, st, p->encoded.first + first + i);
            return;
        }
    }
    memset(block + rows * l->row_bytes, 0, l->block_bytes - rows * l->row_bytes);
    if (p->w->cipher != NULL) {
        const uint64_t in_part = (p->encoded.first - p->part_first) / l->rows_per_block + number;
        note(t,
             emb_ngram_cipher_seal(p->w->cipher, p->part, in_part, block, l->block_bytes, block,
                                   p->tags[in_part]),
             p->encoded.first + first);
    }
}

static void encode_task(pipeline *p, size_t task, int thread) {
    const size_t blocks = (size_t)blocks_of(&p->w->manifest.layout, p->encoded.rows);
    const size_t first = task * p->blocks_per_task;
    for (size_t i = first; i < blocks && i < first + p->blocks_per_task; i++)
        encode_block(p, i, &p->encode[thread]);
}

static void read_task(pipeline *p) {
    const emb_ngram_source *s = p->w->source;
    const uint32_t at = (p->turn + 1) % 2;
    if (p->read.rows == 0)
        return;
    embed_status st = s->fgrams(s->user, p->read.first, p->read.rows, p->fgrams[at]);
    if (st == EMBED_OK)
        st = s->vectors(s->user, p->read.first, p->read.rows, p->vectors[at]);
    note(&p->io[0], st, 0);
}

static void work(void *arg, size_t task, int thread) {
    pipeline *p = arg;
    const size_t bytes = (size_t)emb_ngram_rows_bytes(&p->w->manifest.layout, p->written.rows);
    const unsigned char *done = p->blocks[(p->turn + 1) % 2];
    if (task == 0)
        note(&p->io[2], emb_ngram_sink_digest(&p->sink, done, bytes), 0);
    else if (task == 1)
        read_task(p);
    else if (task == 2)
        note(&p->io[1], emb_ngram_sink_write(&p->sink, done, bytes), 0);
    else
        encode_task(p, task - 3, thread);
}

/* The failure to tell of: the earliest row's, or the reader's, or the disk's. */
static embed_status settle(pipeline *p) {
    const emb_ngram_source *s = p->w->source;
    const trouble *worst = NULL;
    for (int i = 0; i < emb_pool_threads(p->w->pool); i++)
        if (p->encode[i].status != EMBED_OK && (worst == NULL || p->encode[i].row < worst->row))
            worst = &p->encode[i];
    const int a_row = worst != NULL;
    for (int i = 0; i < 3 && worst == NULL; i++)
        if (p->io[i].status != EMBED_OK)
            worst = &p->io[i];
    if (worst == NULL)
        return EMBED_OK;
    const embed_status st = emb_fail(worst->status, "%s", worst->message);
    if (a_row && st == EMBED_ERR_FORMAT && s->explain_row != NULL)
        return s->explain_row(s->user, worst->row);
    if (a_row)
        emb_fail_prefix("row %" PRIu64, worst->row);
    return st;
}

/* All chunks of one part through the three stages. */
static embed_status run_part(pipeline *p) {
    emb_ngram_writing *w = p->w;
    embed_status st = EMBED_OK;
    p->read = p->encoded = p->written = (stage){0, 0};
    for (;; p->turn++) {
        p->written = p->encoded;
        p->encoded = p->read;
        const uint64_t left = p->end - p->next;
        p->read = (stage){p->next, left < p->chunk_rows ? (size_t)left : p->chunk_rows};
        p->next += p->read.rows;
        if (p->read.rows == 0 && p->encoded.rows == 0 && p->written.rows == 0)
            return EMBED_OK;
        const size_t blocks = (size_t)blocks_of(&w->manifest.layout, p->encoded.rows);
        emb_pool_run(w->pool, 3 + (blocks + p->blocks_per_task - 1) / p->blocks_per_task, work, p);
        EMB_TRY(settle(p));
        EMB_TRY(emb_ngram_writing_tell(w, "write rows", p->written.first + p->written.rows,
                                       w->source->rows));
    }
fail:
    return st;
}

static embed_status write_part(pipeline *p, uint32_t part, uint64_t first, uint64_t rows) {
    emb_ngram_writing *w = p->w;
    const emb_ngram_layout *l = &w->manifest.layout;
    char name[32];
    embed_status st = EMBED_OK;
    emb_ngram_file_header h = {.magic = EMB_NGRAM_ROWS_MAGIC,
                               .part = part,
                               .payload_bytes = emb_ngram_rows_bytes(l, rows),
                               .count = rows,
                               .first_row = first,
                               .row_bytes = l->row_bytes,
                               .rows_per_block = l->rows_per_block,
                               .block_bytes = l->block_bytes};
    emb_ngram_part_name(part, name);
    if (emb_ngram_journal_find(&w->journal, name) != NULL)
        return EMBED_OK;
    EMB_TRY(emb_ngram_sink_open(&p->sink, w, name));
    p->part = part;
    p->part_first = p->next = first;
    p->end = first + rows;
    EMB_TRY(emb_ngram_sink_header(&p->sink, w, &h));
    EMB_TRY(run_part(p));
    if (w->cipher != NULL)
        EMB_TRY(emb_ngram_sink_put(&p->sink, p->tags,
                                   (size_t)blocks_of(l, rows) * EMB_NGRAM_TAG_BYTES));
    return emb_ngram_sink_finish(&p->sink, w);
fail:
    emb_ngram_sink_abandon(&p->sink, w);
    return st;
}

static embed_status make_room(pipeline *p) {
    const emb_ngram_writing *w = p->w;
    const emb_env *env = &w->env;
    const emb_ngram_layout *l = &w->manifest.layout;
    embed_status st = EMBED_OK;
    p->chunk_rows = (size_t)chunk_rows_of(l);
    if (p->chunk_rows > w->source->rows)
        p->chunk_rows = (size_t)(blocks_of(l, w->source->rows) * l->rows_per_block);
    p->blocks_per_task = TASK_BYTES / l->block_bytes + 1;
    for (int i = 0; i < 2; i++) {
        EMB_TRY(emb_new_array(env, p->chunk_rows, sizeof(emb_ngram_fgram), (void **)&p->fgrams[i]));
        EMB_TRY(emb_new_array(env, p->chunk_rows, (size_t)l->width * sizeof(float),
                              (void **)&p->vectors[i]));
        EMB_TRY(emb_new_array(env, (size_t)blocks_of(l, p->chunk_rows), l->block_bytes,
                              (void **)&p->blocks[i]));
    }
    const uint64_t most = w->rows_per_part < w->source->rows ? w->rows_per_part : w->source->rows;
    if (w->cipher != NULL)
        EMB_TRY(emb_new_array(env, (size_t)blocks_of(l, most), sizeof *p->tags, (void **)&p->tags));
    EMB_TRY(emb_new_array(env, (size_t)emb_pool_threads(w->pool), sizeof *p->encode,
                          (void **)&p->encode));
fail:
    return st;
}

embed_status emb_ngram_write_rows(emb_ngram_writing *w) {
    pipeline *p = NULL;
    embed_status st = EMBED_OK;
    uint32_t part = 0;
    EMB_TRY(emb_new(&w->env, sizeof *p, (void **)&p));
    p->w = w;
    EMB_TRY(make_room(p));
    for (uint64_t first = 0; first < w->source->rows; first += w->rows_per_part) {
        const uint64_t left = w->source->rows - first;
        EMB_TRY(write_part(p, part++, first, left < w->rows_per_part ? left : w->rows_per_part));
    }
fail:
    if (p != NULL) {
        for (int i = 0; i < 2; i++) {
            emb_free(&w->env, p->fgrams[i]);
            emb_free(&w->env, p->vectors[i]);
            emb_free(&w->env, p->blocks[i]);
        }
        emb_free(&w->env, p->tags);
        emb_free(&w->env, p->encode);
    }
    emb_free(&w->env, p);
    return st;
}

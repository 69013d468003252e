#define _POSIX_C_SOURCE 200809L
#include "model/device_image.h"

#include <string.h>
#include <unistd.h>

#include "device/upload.h"
#include "ngram/ngram_bring.h"

#define STEP_ROWS ((size_t)4096)
#define UPLOAD_BYTES ((size_t)4 << 20)
#define ROW_ALIGN 16 /* bytes; the lookup's widest load */

struct emb_device_image {
    emb_env env;
    embed_table *table;
    emb_device_image *next;
    const emb_backend *backend;
    int32_t index, users;
    emb_image_kind kind;
    pid_t pid;
    emb_device *device; /* a handle of its own */
    emb_dptr rows;      /* [rows, stride] */
    size_t stride;
    uint64_t bytes;
    emb_ngram_row_header *headers; /* [rows] */
    emb_dptr *parts;               /* [table->n_parts] the mapping of each */
    int32_t n_parts;               /* registered so far */
};

size_t emb_device_image_stride(const embed_table *t) {
    return emb_round_up(emb_ngram_carried_bytes(t), ROW_ALIGN);
}

embed_status emb_device_image_plan_bytes(const embed_table *t, uint64_t *device, uint64_t *host) {
    embed_status st = EMBED_OK;
    size_t rows = 0, headers = 0;
    EMB_TRY(
        emb_mul((size_t)t->manifest.rows, emb_device_image_stride(t), "rows on a device", &rows));
    EMB_TRY(emb_mul((size_t)t->manifest.rows, sizeof(emb_ngram_row_header), "rows on a device",
                    &headers));
fail:
    *device = rows;
    *host = headers;
    return st;
}

const char *emb_device_image_refusal(const embed_table *t) {
    if (t->projection != NULL)
        return "rows behind a projection";
    for (int32_t i = 0; i < t->n_parts; i++)
        if (t->parts[i].map == NULL)
            return "rows that are read, not mapped";
        else if (!t->parts[i].clear)
            return "encrypted rows";
    return NULL;
}

/* ------------------------------------------------------------------------------------- loading */

/* Rows on their way through pinned memory. */
struct loading {
    unsigned char *rows; /* [STEP_ROWS, stride] */
    size_t stride;
};

static embed_status choose(void *self, const uint32_t *rows, size_t n, emb_ngram_cargo *cargo) {
    const struct loading *l = self;
    (void)rows;
    for (size_t i = 0; i < n; i++)
        cargo[i].into = l->rows + i * l->stride;
    return EMBED_OK;
}

static embed_status load_step(emb_device_image *image, emb_ngram_fetcher *carrier,
                              const struct loading *l, emb_upload *upload, uint32_t *numbers,
                              uint64_t first) {
    embed_status st = EMBED_OK;
    const uint64_t left = image->table->manifest.rows - first;
    const size_t n = left < STEP_ROWS ? (size_t)left : STEP_ROWS;
    const emb_ngram_depot depot = {(void *)(uintptr_t)l, choose, NULL};
    size_t found;
    for (size_t i = 0; i < n; i++)
        numbers[i] = (uint32_t)(first + i);
    EMB_TRY(emb_ngram_carry_rows(carrier, numbers, n, &depot));
    const emb_ngram_cargo *cargo = emb_ngram_cargo_of(carrier, &found);
    for (size_t i = 0; i < n; i++)
        image->headers[first + i] = cargo[i].header;
    EMB_TRY(emb_upload_put(upload, emb_dptr_add(image->rows, (size_t)first * l->stride), l->rows,
                           n * l->stride));
fail:
    return st;
}

static embed_status load(emb_device_image *image) {
    embed_status st = EMBED_OK;
    emb_ngram_fetcher *carrier = NULL;
    emb_upload upload = {0};
    uint32_t *numbers = NULL;
    struct loading l = {NULL, image->stride};
    uint64_t headers;
    const uint64_t rows = image->table->manifest.rows;
    EMB_TRY(emb_device_image_plan_bytes(image->table, &image->bytes, &headers));
    EMB_TRY(emb_device_alloc(image->device, (size_t)image->bytes, &image->rows));
    EMB_TRY(emb_alloc(&image->env, (size_t)headers, (void **)&image->headers));
    EMB_TRY(emb_new_array(&image->env, STEP_ROWS, sizeof *numbers, (void **)&numbers));
    EMB_TRY(emb_new_array(&image->env, STEP_ROWS, image->stride, (void **)&l.rows));
    EMB_TRY(emb_ngram_carrier_create(&carrier, &image->env, image->table, STEP_ROWS));
    EMB_TRY(emb_upload_create(&upload, image->device, UPLOAD_BYTES));
    for (uint64_t at = 0; at < rows; at += STEP_ROWS)
        EMB_TRY(load_step(image, carrier, &l, &upload, numbers, at));
    EMB_TRY(emb_upload_finish(&upload));
    image->bytes += headers;
fail:
    emb_upload_free(&upload);
    emb_ngram_fetcher_free(carrier);
    emb_free(&image->env, l.rows);
    emb_free(&image->env, numbers);
    return st;
}

static embed_status map(emb_device_image *image) {
    embed_status st = EMBED_OK;
    const embed_table *t = image->table;
    EMB_TRY(emb_new_array(&image->env, (size_t)t->n_parts, sizeof *image->parts,
                          (void **)&image->parts));
    for (; image->n_parts < t->n_parts; image->n_parts++) {
        const emb_ngram_part *p = &t->parts[image->n_parts];
        emb_dptr *at = &image->parts[image->n_parts];
        if (image->kind == EMB_IMAGE_NATIVE)
            at->at = (uint64_t)(uintptr_t)p->map;
        else
            EMB_TRY(emb_device_host_map(image->device, p->map, (size_t)p->map_bytes, at));
    }
fail:
    return st;
}

/* -------------------------------------------------------------------------------------- sharing */

static void release(emb_device_image *image) {
    const emb_env env = image->env;
    if (image->device != NULL) {
        for (int32_t i = 0; image->kind == EMB_IMAGE_REGISTERED && i < image->n_parts; i++)
            emb_device_host_unmap(image->device, image->table->parts[i].map);
        emb_device_free(image->device, image->rows);
        emb_device_close(image->device);
    }
    emb_free(&env, image->headers);
    emb_free(&env, image->parts);
    emb_free(&env, image);
}

static embed_status make(emb_device_image **out, embed_table *t, const emb_backend *backend,
                         int32_t index, emb_image_kind kind) {
    embed_status st = EMBED_OK;
    emb_device_image *image = NULL;
    EMB_TRY(emb_new(&t->env, sizeof *image, (void **)&image));
    image->env = t->env;
    image->table = t;
    image->backend = backend;
    image->index = index;
    image->kind = kind;
    image->pid = getpid();
    image->stride = emb_device_image_stride(t);
    EMB_TRY(emb_device_open(&image->device, &image->env, backend, index));
    EMB_TRY(kind == EMB_IMAGE_COPY ? load(image) : map(image));
    *out = image;
    return EMBED_OK;
fail:
    if (image != NULL)
        release(image);
    return st;
}

embed_status emb_device_image_get(emb_device_image **out, embed_table *t,
                                  const emb_backend *backend, int32_t index, emb_image_kind kind) {
    embed_status st = EMBED_OK;
    *out = NULL;
    (void)pthread_mutex_lock(&t->image_lock);
    for (emb_device_image *i = t->images; i != NULL; i = i->next)
        if (i->backend == backend && i->index == index && i->kind == kind &&
            emb_device_alive(i->device))
            *out = i;
    if (*out == NULL) {
        st = make(out, t, backend, index, kind);
        if (st == EMBED_OK) {
            (*out)->next = t->images;
            t->images = *out;
        }
    }
    if (st == EMBED_OK)
        (*out)->users++;
    (void)pthread_mutex_unlock(&t->image_lock);
    return st;
}

void emb_device_image_put(emb_device_image *image) {
    if (image == NULL)
        return;
    embed_table *t = image->table;
    const int ours = image->pid == getpid(); /* a child may have been forked from under the lock */
    if (ours)
        (void)pthread_mutex_lock(&t->image_lock);
    const int last = --image->users == 0;
    emb_device_image **link = &t->images;
    while (last && *link != image)
        link = &(*link)->next;
    if (last)
        *link = image->next;
    if (last)
        release(image); /* with the lock: nobody may register a mapping that still is */
    if (ours)
        (void)pthread_mutex_unlock(&t->image_lock);
}

uint64_t emb_device_image_bytes(const emb_device_image *image) {
    return image->bytes;
}

/* ------------------------------------------------------------------------------------ finding */

static int32_t part_of(const embed_table *t, uint32_t row) {
    int32_t low = 0, high = t->n_parts - 1;
    while (low < high) {
        const int32_t middle = high - (high - low) / 2;
        if (t->parts[middle].first_row <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

embed_status emb_device_image_find(const emb_device_image *image, uint32_t row, uint64_t *at,
                                   emb_ngram_row_header *header) {
    embed_table *t = image->table;
    if (image->kind == EMB_IMAGE_COPY) {
        *at = image->rows.at + row * (uint64_t)image->stride;
        *header = image->headers[row];
        return EMBED_OK;
    }
    const int32_t p = part_of(t, row);
    const uint64_t offset = EMB_NGRAM_FILE_HEADER_BYTES +
                            emb_ngram_row_offset(&t->manifest.layout, row - t->parts[p].first_row);
    const unsigned char *bytes = t->parts[p].map + offset;
    const embed_status st = emb_ngram_vouch(t, row, bytes);
    memcpy(header, bytes, sizeof *header);
    *at = image->parts[p].at + offset + sizeof *header;
    return st;
}

#include "io/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LENGTH_BYTES 8 /* little-endian length of the JSON header, then the header, then data */

/* Every dtype of the format, so that tensors without use for us (position ids as I64) are skipped
 * rather than refused; bits because two of them are narrower than a byte. */
static const struct {
    const char *name;
    int32_t bits, dtype;
} dtypes[] = {
    {"F32", 32, EMBED_F32}, {"F16", 16, EMBED_F16}, {"BF16", 16, EMBED_BF16}, {"BOOL", 8, 0},
    {"U8", 8, 0},           {"I8", 8, 0},           {"F8_E5M2", 8, 0},        {"F8_E4M3", 8, 0},
    {"F8_E8M0", 8, 0},      {"F8_E4M3FNUZ", 8, 0},  {"F8_E5M2FNUZ", 8, 0},    {"F4", 4, 0},
    {"F6_E2M3", 6, 0},      {"F6_E3M2", 6, 0},      {"I16", 16, 0},           {"U16", 16, 0},
    {"I32", 32, 0},         {"U32", 32, 0},         {"C64", 64, 0},           {"F64", 64, 0},
    {"I64", 64, 0},         {"U64", 64, 0}};

const char *emb_tensor_show_shape(const emb_tensor *tensor, char buf[EMB_SHAPE_SHOWN]) {
    size_t used = 0;
    buf[used++] = '[';
    for (int32_t i = 0; i < tensor->rank && i < EMB_TENSOR_DIMS; i++) {
        const int n = snprintf(buf + used, EMB_SHAPE_SHOWN - used, "%s%" PRId64, i > 0 ? "," : "",
                               tensor->shape[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    (void)snprintf(buf + used, EMB_SHAPE_SHOWN - used, "%s]",
                   tensor->rank > EMB_TENSOR_DIMS ? ",..." : "");
    return buf;
}

/* The header as a document; *data_at is where tensor data starts. */
static embed_status read_header(emb_safetensors *file, const emb_env *env, size_t *data_at) {
    embed_status st;
    const unsigned char *bytes, *text;
    uint64_t length = 0;
    EMB_TRY(emb_map_view(&file->map, 0, LENGTH_BYTES, "header length", &bytes));
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | bytes[i];
    if (length > EMB_SAFETENSORS_MAX_HEADER)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: header length: expected at most %d bytes, found %" PRIu64,
                        file->map.path, EMB_SAFETENSORS_MAX_HEADER, length);
    EMB_TRY(emb_map_view(&file->map, LENGTH_BYTES, length, "header", &text));
    if (length == 0 || text[0] == 0xef) /* a byte order mark is no part of a header */
        return emb_fail(EMBED_ERR_FORMAT, "%s: header: expected a JSON object, found %s",
                        file->map.path, length == 0 ? "nothing" : "a byte order mark");
    EMB_TRY(emb_json_parse(&file->header, env, file->map.path, (const char *)text, (size_t)length));
    if (emb_json_type_of(emb_json_root(file->header)) != EMB_JSON_OBJECT)
        return emb_json_fail(EMBED_ERR_FORMAT, file->header, emb_json_root(file->header), NULL,
                             "expected an object as header");
    *data_at = LENGTH_BYTES + (size_t)length;
fail:
    return st;
}

/* The next element of an array of sizes; *more is 0 at its end. */
static embed_status next_size(const emb_json_doc *doc, emb_json_iter *it, int64_t *size,
                              int *more) {
    const emb_json *value = emb_json_next(it, NULL);
    *more = value != NULL;
    *size = emb_json_integer(value);
    if (value != NULL && (!emb_json_is_integer(value) || *size < 0))
        return emb_json_fail(EMBED_ERR_FORMAT, doc, value, NULL,
                             "expected an integer of at least 0");
    return EMBED_OK;
}

static embed_status read_dtype(const emb_json_doc *doc, const emb_json *entry, emb_tensor *tensor,
                               size_t *bits) {
    const char *name;
    const embed_status st = emb_json_need_string(doc, entry, "dtype", &name, NULL);
    if (st != EMBED_OK)
        return st;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            tensor->dtype_name = dtypes[i].name;
            tensor->dtype = dtypes[i].dtype;
            *bits = (size_t)dtypes[i].bits;
            return EMBED_OK;
        }
    return emb_json_fail(EMBED_ERR_FORMAT, doc, entry, "dtype",
                         "expected a dtype of the safetensors format");
}

/* The shape, and the bytes of such a tensor with elements of `bits`. */
static embed_status read_shape(const emb_json_doc *doc, const emb_json *entry, emb_tensor *tensor,
                               size_t bits) {
    const emb_json *array;
    embed_status st;
    size_t elements = 1;
    int64_t size;
    int more;
    for (int i = 0; i < EMB_TENSOR_DIMS; i++)
        tensor->shape[i] = 1;
    EMB_TRY(emb_json_need(doc, entry, "shape", EMB_JSON_ARRAY, &array));
    emb_json_iter it = emb_json_iterate(array);
    for (;;) {
        EMB_TRY(next_size(doc, &it, &size, &more));
        if (!more)
            break;
        if (tensor->rank < EMB_TENSOR_DIMS)
            tensor->shape[tensor->rank] = size;
        tensor->rank++; /* a header of 100 MB has less than 2^31 of them */
        if (__builtin_mul_overflow(elements, (size_t)size, &elements))
            return emb_json_fail(EMBED_ERR_FORMAT, doc, entry, "shape",
                                 "expected a product that fits 64 bits");
    }
    if (__builtin_mul_overflow(elements, bits, &bits) || bits % 8 != 0)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, entry, "shape",
                             "expected a size that fits 64 bits and is whole bytes");
    tensor->bytes = bits / 8;
fail:
    return st;
}

static embed_status read_offsets(const emb_json_doc *doc, const emb_json *entry,
                                 emb_tensor *tensor) {
    const emb_json *array;
    embed_status st;
    int64_t begin, end, third;
    int has_end, more;
    EMB_TRY(emb_json_need(doc, entry, "data_offsets", EMB_JSON_ARRAY, &array));
    emb_json_iter it = emb_json_iterate(array);
    EMB_TRY(next_size(doc, &it, &begin, &more));
    EMB_TRY(next_size(doc, &it, &end, &has_end));
    EMB_TRY(next_size(doc, &it, &third, &more));
    if (!has_end || more)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, entry, "data_offsets", "expected [begin, end]");
    if (end < begin || (uint64_t)(end - begin) != tensor->bytes)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, entry, "data_offsets",
                             "expected %zu bytes for this shape and dtype, which [%" PRId64
                             ", %" PRId64 "] are not",
                             tensor->bytes, begin, end);
    tensor->offset = (size_t)begin;
fail:
    return st;
}

/* Free text of the writer, of no use here but part of the format: strings by name, at most once. */
static embed_status check_metadata(const emb_json_doc *doc, const emb_json *metadata) {
    const emb_json *value;
    const embed_status st =
        emb_json_need(doc, emb_json_root(doc), "__metadata__", EMB_JSON_OBJECT, &value);
    if (st != EMBED_OK)
        return st;
    for (emb_json_iter it = emb_json_iterate(metadata); (value = emb_json_next(&it, NULL)) != NULL;)
        if (emb_json_type_of(value) != EMB_JSON_STRING)
            return emb_json_fail(EMBED_ERR_FORMAT, doc, value, NULL, "expected a string");
    return EMBED_OK;
}

static embed_status read_tensors(emb_safetensors *file, const emb_env *env) {
    const emb_json_doc *doc = file->header;
    const emb_json *root = emb_json_root(doc), *name, *entry;
    embed_status st;
    void *tensors;
    size_t len, bits = 0;
    EMB_TRY(emb_new_array(env, emb_json_count(root), sizeof *file->tensors, &tensors));
    file->tensors = tensors;
    for (emb_json_iter it = emb_json_iterate(root); (entry = emb_json_next(&it, &name)) != NULL;) {
        emb_tensor *tensor = &file->tensors[file->n];
        tensor->name = emb_json_string(name, &len);
        if (strcmp(tensor->name, "__metadata__") == 0) {
            EMB_TRY(check_metadata(doc, entry));
            continue;
        }
        if (strlen(tensor->name) != len)
            return emb_json_fail(EMBED_ERR_FORMAT, doc, entry, NULL,
                                 "expected a name without NUL bytes");
        EMB_TRY(read_dtype(doc, entry, tensor, &bits));
        EMB_TRY(read_shape(doc, entry, tensor, bits));
        EMB_TRY(read_offsets(doc, entry, tensor));
        file->n++;
    }
fail:
    return st;
}

typedef int (*order_fn)(const emb_tensor *a, const emb_tensor *b);

static int by_offset(const emb_tensor *a, const emb_tensor *b) {
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* empty tensors before their neighbour */
}

static int by_name(const emb_tensor *a, const emb_tensor *b) {
    return strcmp(a->name, b->name);
}

/* Heapsort: qsort of the C library may allocate. */
static void sift_down(emb_tensor *t, size_t n, size_t i, order_fn order) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && order(&t[child], &t[child + 1]) < 0)
            child++;
        if (order(&t[i], &t[child]) >= 0)
            return;
        const emb_tensor swap = t[i];
        t[i] = t[child];
        t[child] = swap;
    }
}

static void sort_tensors(emb_tensor *t, size_t n, order_fn order) {
    for (size_t i = n / 2; i-- > 0;)
        sift_down(t, n, i, order);
    for (size_t last = n; last-- > 1;) {
        const emb_tensor swap = t[0];
        t[0] = t[last];
        t[last] = swap;
        sift_down(t, last, 0, order);
    }
}

/* The tensors must cover the data exactly once, from its first to its last byte. */
static embed_status place_tensors(emb_safetensors *file, size_t data_at) {
    const size_t data_bytes = file->map.size - data_at;
    size_t end = 0;
    sort_tensors(file->tensors, file->n, by_offset);
    for (size_t i = 0; i < file->n; i++) {
        emb_tensor *tensor = &file->tensors[i];
        if (tensor->offset != end)
            return emb_fail(EMBED_ERR_FORMAT,
                            "%s: %s: data_offsets: expected data to begin at %zu, where %s ends, "
                            "found %zu",
                            file->map.path, tensor->name, end,
                            i > 0 ? file->tensors[i - 1].name : "the header", tensor->offset);
        if (tensor->bytes > data_bytes - end)
            return emb_fail(EMBED_ERR_TRUNCATED,
                            "%s: %s: expected %zu bytes at offset %zu of the data, found only %zu",
                            file->map.path, tensor->name, tensor->bytes, end, data_bytes - end);
        tensor->data = file->map.data + data_at + end;
        end += tensor->bytes;
    }
    if (end != data_bytes)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: expected the data to end after %zu bytes with the last tensor, found "
                        "%zu",
                        file->map.path, end, data_bytes);
    sort_tensors(file->tensors, file->n, by_name);
    for (size_t i = 1; i < file->n; i++)
        if (strcmp(file->tensors[i].name, file->tensors[i - 1].name) == 0)
            return emb_fail(EMBED_ERR_FORMAT, "%s: %s: expected one tensor of this name, found two",
                            file->map.path, file->tensors[i].name);
    return EMBED_OK;
}

embed_status emb_safetensors_open(emb_safetensors *file, const emb_env *env, const char *path) {
    embed_status st;
    size_t data_at = 0;
    memset(file, 0, sizeof *file);
    EMB_TRY(emb_map_open(&file->map, env, path, EMB_MAP_NORMAL));
    EMB_TRY(read_header(file, env, &data_at));
    EMB_TRY(read_tensors(file, env));
    EMB_TRY(place_tensors(file, data_at));
    return EMBED_OK;
fail:
    emb_safetensors_close(file, env);
    return st;
}

void emb_safetensors_close(emb_safetensors *file, const emb_env *env) {
    emb_free(env, file->tensors);
    emb_json_free(file->header);
    emb_map_close(&file->map, env);
    memset(file, 0, sizeof *file);
}

const emb_tensor *emb_safetensors_find(const emb_safetensors *file, const char *name) {
    size_t low = 0, high = file->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(file->tensors[middle].name, name);
        if (order == 0)
            return &file->tensors[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

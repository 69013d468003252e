#include "io/tensor_files.h"

#include <string.h>

#include "io/file.h"

#define MAX_INDEX_BYTES (64u << 20)
#define MAX_SHARDS 1000

static embed_status add_file(emb_tensor_files *set, const emb_env *env, const char *path) {
    void *files = set->files;
    embed_status st = emb_grow(env, &files, &set->capacity, set->n + 1, sizeof *set->files);
    set->files = files;
    if (st == EMBED_OK)
        st = emb_safetensors_open(&set->files[set->n], env, path);
    if (st == EMBED_OK)
        set->n++;
    return st;
}

/* A shard is a file beside the index, so that a checkpoint cannot make us read another place. */
static int is_shard_name(const char *name, size_t len) {
    static const char suffix[] = ".safetensors";
    const size_t suffix_len = sizeof suffix - 1;
    return strlen(name) == len && len > suffix_len && strchr(name, '/') == NULL &&
           strchr(name, '\\') == NULL && strcmp(name + len - suffix_len, suffix) == 0;
}

static int is_file(const emb_safetensors *file, const char *name) {
    const char *slash = strrchr(file->map.path, '/');
    return strcmp(slash != NULL ? slash + 1 : file->map.path, name) == 0;
}

static emb_safetensors *find_file(const emb_tensor_files *set, const char *name) {
    size_t i = 0;
    while (i < set->n && !is_file(&set->files[i], name))
        i++;
    return i < set->n ? &set->files[i] : NULL;
}

/* Open each shard that the map names, in the order of the map. */
static embed_status open_shards(emb_tensor_files *set, const emb_env *env, const char *dir,
                                const emb_json_doc *index, const emb_json *map) {
    const emb_json *shard;
    for (emb_json_iter it = emb_json_iterate(map); (shard = emb_json_next(&it, NULL)) != NULL;) {
        size_t len;
        char *path;
        const char *name = emb_json_string(shard, &len);
        if (!is_shard_name(name, len))
            return emb_json_fail(EMBED_ERR_FORMAT, index, shard, NULL,
                                 "expected the name of a .safetensors file beside the index");
        if (find_file(set, name) != NULL)
            continue;
        if (set->n == MAX_SHARDS)
            return emb_json_fail(EMBED_ERR_FORMAT, index, map, NULL, "expected at most %d files",
                                 MAX_SHARDS);
        embed_status st = emb_file_join(env, dir, name, &path);
        if (st == EMBED_OK)
            st = add_file(set, env, path);
        emb_free(env, path);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}

/* Entry `name` of the map, which is in `file` as it says: there, and nowhere else. */
static embed_status check_entry(const emb_tensor_files *set, const emb_json_doc *index,
                                const emb_json *entry, const char *name,
                                const emb_safetensors *file) {
    emb_tensor *tensor = NULL;
    for (size_t i = 0; i < set->n; i++) {
        const emb_tensor *found = emb_safetensors_find(&set->files[i], name);
        if (found == NULL)
            continue;
        if (&set->files[i] != file)
            return emb_fail(
                EMBED_ERR_MISMATCH, "%s: weight_map: %s: expected in %s alone, found in %s",
                emb_json_name(index), name, emb_json_string(entry, NULL), set->files[i].map.path);
        tensor = &set->files[i].tensors[found - set->files[i].tensors];
    }
    if (tensor == NULL)
        return emb_fail(EMBED_ERR_MISMATCH, "%s: weight_map: %s: expected in %s, found nowhere",
                        emb_json_name(index), name, emb_json_string(entry, NULL));
    if (tensor->used)
        return emb_fail(EMBED_ERR_FORMAT, "%s: weight_map: %s: expected once, found twice",
                        emb_json_name(index), name);
    tensor->used = 1;
    return EMBED_OK;
}

static embed_status open_index(emb_tensor_files *set, const emb_env *env, const char *dir,
                               const char *path) {
    emb_json_doc *index = NULL;
    const emb_json *map, *name, *entry;
    embed_status st;
    EMB_TRY(emb_json_open(&index, env, path, MAX_INDEX_BYTES));
    EMB_TRY(emb_json_need(index, emb_json_root(index), "weight_map", EMB_JSON_OBJECT, &map));
    EMB_TRY(open_shards(set, env, dir, index, map));
    for (emb_json_iter it = emb_json_iterate(map); (entry = emb_json_next(&it, &name)) != NULL;)
        EMB_TRY(check_entry(set, index, entry, emb_json_string(name, NULL),
                            find_file(set, emb_json_string(entry, NULL))));
    for (size_t i = 0; i < set->n; i++)
        for (size_t k = 0; k < set->files[i].n; k++) {
            emb_tensor *tensor = &set->files[i].tensors[k];
            if (!tensor->used) {
                st = emb_fail(
                    EMBED_ERR_MISMATCH,
                    "%s: weight_map: expected every tensor of its files, found no %s of %s", path,
                    tensor->name, set->files[i].map.path);
                goto fail;
            }
            tensor->used = 0;
        }
fail:
    emb_json_free(index);
    return st;
}

embed_status emb_tensor_files_open(emb_tensor_files *set, const emb_env *env, const char *dir) {
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    char *paths[4] = {NULL, NULL, NULL, NULL};
    int exists[4];
    embed_status st;
    memset(set, 0, sizeof *set);
    for (int i = 0; i < 4; i++) {
        EMB_TRY(emb_file_join(env, dir, names[i], &paths[i]));
        EMB_TRY(emb_file_exists(paths[i], &exists[i]));
    }
    if (!exists[0] && exists[1])
        st = open_index(set, env, dir, paths[1]);
    else if (!exists[0] && (exists[2] || exists[3]))
        st = emb_fail(EMBED_ERR_UNSUPPORTED,
                      "%s: expected model.safetensors beside it: a pickle can run code and is not "
                      "read; convert it to safetensors (transformers: save_pretrained)",
                      paths[exists[2] ? 2 : 3]);
    else
        st = add_file(set, env, paths[0]);
fail:
    for (int i = 0; i < 4; i++)
        emb_free(env, paths[i]);
    if (st != EMBED_OK)
        emb_tensor_files_close(set, env);
    return st;
}

void emb_tensor_files_close(emb_tensor_files *set, const emb_env *env) {
    for (size_t i = 0; i < set->n; i++)
        emb_safetensors_close(&set->files[i], env);
    emb_free(env, set->files);
    memset(set, 0, sizeof *set);
}

const emb_tensor *emb_tensor_files_find(const emb_tensor_files *set, const char *name,
                                        const emb_safetensors **file) {
    for (size_t i = 0; i < set->n; i++) {
        const emb_tensor *tensor = emb_safetensors_find(&set->files[i], name);
        if (tensor != NULL) {
            *file = &set->files[i];
            return tensor;
        }
    }
    return NULL;
}

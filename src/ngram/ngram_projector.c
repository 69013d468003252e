#include "ngram/ngram_projector.h"

#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "kernels/row_decode/row_decode.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_path.h"

#define NAME "projection.safetensors"

void emb_ngram_projector_free(emb_ngram_projector *p, const emb_env *env) {
    if (p == NULL)
        return;
    emb_free(env, p->values);
    emb_free(env, p->packed);
    emb_free(env, p);
}

static embed_status check_digest(const embed_table *t, const emb_safetensors *file,
                                 const char *path) {
    emb_ngram_sha256 *sha = NULL;
    const emb_ngram_file *entry = NULL;
    char hex[65];
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < t->manifest.n_files; i++)
        if (strcmp(t->manifest.files[i].name, NAME) == 0)
            entry = &t->manifest.files[i];
    if (entry == NULL)
        return emb_fail(EMBED_ERR_FORMAT, "%s: not in the manifest", path);
    if (entry->bytes != file->map.size)
        return emb_fail(file->map.size < entry->bytes ? EMBED_ERR_TRUNCATED : EMBED_ERR_FORMAT,
                        "%s: expected %llu bytes, found %zu", path,
                        (unsigned long long)entry->bytes, file->map.size);
    EMB_TRY(emb_ngram_sha256_start(&sha, &t->env));
    st = emb_ngram_sha256_update(sha, file->map.data, file->map.size);
    if (st != EMBED_OK) {
        emb_ngram_sha256_free(sha);
        return st;
    }
    EMB_TRY(emb_ngram_sha256_finish(sha, hex));
    if (strcmp(hex, entry->sha256) != 0)
        return emb_fail(EMBED_ERR_FORMAT, "%s: expected SHA-256 %s, found %s", path, entry->sha256,
                        hex);
fail:
    return st;
}

static embed_status check_safe(const char *path) {
    int fd;
    uint64_t size;
    embed_status st = emb_file_open(path, &fd, &size);
    if (st == EMBED_OK)
        st = emb_ngram_path_check(path, fd);
    emb_file_close(fd);
    return st;
}

/* The numbers, widened, and packed for the table's instruction set. */
static embed_status take_tensor(emb_ngram_projector *p, const embed_table *t,
                                const emb_tensor *tensor, const char *path) {
    const int64_t rows = t->manifest.binding.hidden, cols = t->manifest.layout.width;
    embed_status st = EMBED_OK;
    char shape[EMB_SHAPE_SHOWN];
    size_t n, bytes;
    if (tensor == NULL)
        return emb_fail(EMBED_ERR_MISMATCH, "%s: has no tensor \"%s\", which the manifest names",
                        path, t->manifest.projection);
    if (tensor->rank != 2 || tensor->shape[0] != rows || tensor->shape[1] != cols ||
        tensor->dtype == 0)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: %s: expected [%lld,%lld] of F32, F16 or BF16, found %s of %s", path,
                        tensor->name, (long long)rows, (long long)cols,
                        emb_tensor_show_shape(tensor, shape), tensor->dtype_name);
    EMB_TRY(emb_mul((size_t)rows, (size_t)cols, path, &n));
    EMB_TRY(emb_new_array(&t->env, n, sizeof *p->values, (void **)&p->values));
    emb_row_decode(t->isa, p->values, tensor->data, (int64_t)n, tensor->dtype, 1, 0);
    p->weight = (emb_weight){
        .m = {.data = p->values, .rows = rows, .cols = cols, .dtype = EMBED_F32},
        .layout = EMB_GEMM_NT,
    };
    EMB_TRY(emb_gemm_packed_bytes(t->isa, &p->weight, &bytes));
    EMB_TRY(emb_alloc(&t->env, bytes, (void **)&p->packed));
    emb_gemm_pack(t->isa, &p->weight, p->packed);
    p->weight.packed = p->packed;
fail:
    return st;
}

embed_status emb_ngram_projector_open(emb_ngram_projector **out, const embed_table *t,
                                      int allow_unsafe) {
    embed_status st = EMBED_OK;
    emb_ngram_projector *p = NULL;
    emb_safetensors file = {0};
    char *path = NULL;
    *out = NULL;
    if (t->manifest.projection == NULL)
        return EMBED_OK;
    EMB_TRY(emb_file_join(&t->env, t->path, NAME, &path));
    if (!allow_unsafe)
        EMB_TRY(check_safe(path));
    EMB_TRY(emb_safetensors_open(&file, &t->env, path));
    EMB_TRY(check_digest(t, &file, path));
    EMB_TRY(emb_new(&t->env, sizeof *p, (void **)&p));
    EMB_TRY(take_tensor(p, t, emb_safetensors_find(&file, t->manifest.projection), path));
    *out = p;
    p = NULL;
fail:
    emb_ngram_projector_free(p, &t->env);
    emb_safetensors_close(&file, &t->env);
    emb_free(&t->env, path);
    return st;
}

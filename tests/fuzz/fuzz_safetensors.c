/* fuzz_safetensors: bytes as a safetensors file; whatever opens must describe its data exactly. */
#include "fuzz/fuzz.h"

#include "base/dtype.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const emb_env env = fuzz_env();
    emb_safetensors file;
    const embed_status st = emb_safetensors_open(&file, &env, fuzz_file(data, size));
    fuzz_check_status(st);
    if (st != EMBED_OK)
        return 0;
    FUZZ_CHECK(file.map.size == size && size >= 8);
    size_t covered = 0, sum = 0;
    for (size_t i = 0; i < file.n; i++) {
        const emb_tensor *t = &file.tensors[i];
        char shown[EMB_SHAPE_SHOWN];
        FUZZ_CHECK(i == 0 || strcmp(file.tensors[i - 1].name, t->name) < 0);
        FUZZ_CHECK(emb_safetensors_find(&file, t->name) == t);
        FUZZ_CHECK(strlen(emb_tensor_show_shape(t, shown)) < EMB_SHAPE_SHOWN);
        const size_t at = (size_t)(t->data - file.map.data);
        FUZZ_CHECK(at >= 8 && at <= size && t->bytes <= size - at);
        covered = at + t->bytes > covered ? at + t->bytes : covered;
        for (size_t k = 0; k < t->bytes; k++) /* a sanitizer sees what is not mapped */
            sum += t->data[k];
        if (t->dtype && t->rank <= EMB_TENSOR_DIMS) {
            size_t bytes = emb_dtype_bytes(t->dtype);
            for (int k = 0; k < EMB_TENSOR_DIMS; k++) {
                FUZZ_CHECK(t->shape[k] >= 0);
                bytes *= (size_t)t->shape[k];
            }
            FUZZ_CHECK(bytes == t->bytes);
        }
    }
    FUZZ_CHECK(file.n == 0 || covered == size);
    FUZZ_CHECK(!emb_safetensors_find(&file, "no such tensor") || sum < SIZE_MAX);
    emb_safetensors_close(&file, &env);
    return 0;
}

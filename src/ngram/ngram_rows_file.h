/* ngram_rows_file: vectors computed elsewhere, row i for n-gram i of a list: a .npy file, one
 * tensor of a safetensors file, or the bare numbers. Read, never mapped. */
#ifndef EMB_NGRAM_NGRAM_ROWS_FILE_H
#define EMB_NGRAM_NGRAM_ROWS_FILE_H

#include "base/alloc.h"

/* Element types of such files, beside EMBED_F32, EMBED_F16 and EMBED_BF16. */
#define EMB_NGRAM_ROWS_F64 64

typedef struct emb_ngram_rows_params {
    const char *tensor; /* safetensors: which one; NULL: the only one */
    int32_t raw_dtype;  /* files that are neither .npy nor .safetensors: little-endian numbers of */
    int32_t raw_width;  /* this type, so many a row; 0: such files are refused */
} emb_ngram_rows_params;

typedef struct emb_ngram_rows_file emb_ngram_rows_file; /* one call at a time */

/* params may be NULL. Errors: _IO; _FORMAT; _TRUNCATED: shorter than its header says; _UNSUPPORTED:
 * another element type, column order, or number of dimensions. */
embed_status emb_ngram_rows_file_open(emb_ngram_rows_file **out, const emb_env *env,
                                      const char *path, const emb_ngram_rows_params *params);
void emb_ngram_rows_file_free(emb_ngram_rows_file *file); /* NULL is a no-op */

uint64_t emb_ngram_rows_file_rows(const emb_ngram_rows_file *file);
int32_t emb_ngram_rows_file_width(const emb_ngram_rows_file *file);
/* Of size, time of the last change, layout, and the first and last bytes: the same file as before.
 */
void emb_ngram_rows_file_digest(const emb_ngram_rows_file *file, uint8_t digest[16]);

/* out [n, width]: rows first .. first + n - 1, which must exist. Not checked for NaN; what f32 does
 * not hold becomes infinite. */
embed_status emb_ngram_rows_file_read(emb_ngram_rows_file *file, uint64_t first, size_t n,
                                      float *out);

#endif

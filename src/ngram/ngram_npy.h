/* ngram_npy: the header of NumPy's .npy files, read and written (numpy.lib.format). */
#ifndef EMB_NGRAM_NGRAM_NPY_H
#define EMB_NGRAM_NGRAM_NPY_H

#include "base/alloc.h"

#define EMB_NPY_HEADER_BYTES 128 /* of the ones that are written here */

typedef struct emb_npy {
    char type[8]; /* "f4": descr without its byte order */
    int32_t big_endian, fortran_order;
    int32_t rank; /* at most 2 dimensions are kept */
    int32_t reserved;
    uint64_t shape[2];
    uint64_t data_offset;
} emb_npy;

int emb_npy_is(int fd); /* 1: starts with the magic bytes */
/* size: of the file. Errors: _IO; _FORMAT; _TRUNCATED if the data is shorter than shape and type
 * say; _UNSUPPORTED: a later version, or no plain numbers. */
embed_status emb_npy_read_header(emb_npy *npy, const emb_env *env, int fd, const char *path,
                                 uint64_t size);
/* For an array [rows, columns] of f32 in this machine's byte order. */
void emb_npy_make_header(char header[EMB_NPY_HEADER_BYTES], uint64_t rows, uint64_t columns);

#endif

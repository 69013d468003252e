/* counts_file: the file that `embed ngram count` writes: all frequent n-grams of a corpus with
 * their counts. Little-endian:
 *
 *   offset 0      emb_counts_header, 320 bytes
 *   then          one section for each length 2 .. k, without gaps, in that order
 *
 * A section is `entries` records in ascending order of their ids, each
 *   u64 count         occurrences
 *   u32 documents     texts it occurs in; only if the header says with_documents
 *   u32 ids[length]   in text order
 *
 * Checksums: the header has its own, each section one over its bytes (XXH3-64), verified by whoever
 * reads it to its end. */
#ifndef EMB_NGRAM_COUNTS_FILE_H
#define EMB_NGRAM_COUNTS_FILE_H

#include "base/alloc.h"
#include "ngram/ngram_format.h"

#define EMB_COUNTS_MAGIC 0x544e554f43424d45u /* "EMBCOUNT" */
#define EMB_COUNTS_VERSION 1
#define EMB_COUNTS_RECORD_MAX (8 + 4 + 4 * EMB_NGRAM_MAX_K)

typedef struct emb_counts_section {
    uint64_t offset, entries; /* offset from the start of the file */
    uint64_t checksum;        /* XXH3-64 of its bytes */
} emb_counts_section;

typedef struct emb_counts_header {
    uint64_t magic;
    uint32_t version, header_bytes;
    char tokenizer[32];     /* fingerprint of tokenizer.json, hexadecimal digits */
    int32_t vocab;          /* ids are 0 .. vocab - 1 */
    int32_t hidden;         /* width of the model's word embedding, a default for row widths */
    int32_t k;              /* longest n-gram, 2 .. 8 */
    int32_t with_documents; /* 1: records hold document counts */
    uint64_t min_count;     /* n-grams below it are not in the file */
    uint64_t min_documents; /* the same, 1 if documents were not counted */
    uint64_t tokens, texts; /* counted: special tokens apart, empty texts included */
    emb_counts_section sections[EMB_NGRAM_MAX_K + 1]; /* by length; unused ones zero */
    uint64_t checksum; /* XXH3-64 of the header with this field zero */
} emb_counts_header;

_Static_assert(sizeof(emb_counts_header) == 320, "counts header");

typedef struct emb_counts_record {
    uint64_t count;
    uint32_t documents; /* 0 if not kept */
    int32_t length;     /* 0: no more */
    uint32_t ids[EMB_NGRAM_MAX_K];
} emb_counts_record;

static inline size_t emb_counts_record_bytes(int32_t length, int32_t with_documents) {
    return 8 + (with_documents ? 4u : 0u) + 4 * (size_t)length;
}
/* -1, 0, 1 in the order of the file: shorter first, then by ids. */
int emb_counts_compare(const emb_counts_record *a, const emb_counts_record *b);

void emb_counts_header_seal(emb_counts_header *h);
/* Magic, version, checksum, ranges, sections within file_bytes; messages name the file. */
embed_status emb_counts_header_check(const emb_counts_header *h, uint64_t file_bytes,
                                     const char *path);

/* Reads one section from front to back. */
typedef struct emb_counts_cursor {
    const emb_env *env;
    const char *path;
    int fd;
    int32_t length, vocab, with_documents;
    emb_counts_section section;
    uint64_t left, at; /* entries not handed out; offset of the next bytes to read */
    unsigned char *buffer;
    size_t capacity, have, used;
    void *hash; /* XXH3 state */
    emb_counts_record last;
} emb_counts_cursor;

/* buffer_bytes: what it reads at once, at least 64. path and env are borrowed. */
embed_status emb_counts_cursor_open(emb_counts_cursor *c, const emb_env *env, int fd,
                                    const char *path, size_t buffer_bytes);
void emb_counts_cursor_close(emb_counts_cursor *c); /* a zeroed one is a no-op */
void emb_counts_cursor_start(emb_counts_cursor *c, const emb_counts_header *h, int32_t length);
/* The next record; length 0 at the end, once the checksum was found right. */
embed_status emb_counts_cursor_next(emb_counts_cursor *c, emb_counts_record *out);

/* A whole file: sections one after the other. */
typedef struct emb_counts_reader {
    const emb_env *env;
    int fd;
    int32_t reserved;
    char *path;
    emb_counts_header header;
    emb_counts_cursor cursor;
} emb_counts_reader;

embed_status emb_counts_open(emb_counts_reader *r, const emb_env *env, const char *path,
                             size_t buffer_bytes);
void emb_counts_close(emb_counts_reader *r); /* a zeroed one is a no-op */
void emb_counts_rewind(emb_counts_reader *r);
/* Length 0 at the end of the last section. */
embed_status emb_counts_next(emb_counts_reader *r, emb_counts_record *out);

/* Where the sections that there are, [EMB_NGRAM_MAX_K + 1], end in the file. */
uint64_t emb_counts_sections_end(const emb_counts_section *sections, int32_t with_documents);

/* Writes a file, section by section, in ascending order. */
typedef struct emb_counts_writer {
    const emb_env *env;
    char *path;
    int fd;
    int32_t length; /* of the section at work */
    emb_counts_header header;
    uint64_t at; /* bytes written */
    unsigned char *buffer;
    size_t capacity, used;
    void *hash;
} emb_counts_writer;

/* header: everything but sections. A file of that name is replaced, or, with `resume`, cut after
 * the sections that the header has. */
embed_status emb_counts_writer_open(emb_counts_writer *w, const emb_env *env, const char *path,
                                    const emb_counts_header *header, int resume,
                                    size_t buffer_bytes);
void emb_counts_writer_close(emb_counts_writer *w); /* leaves the file; a zeroed one is a no-op */
void emb_counts_writer_start(emb_counts_writer *w, int32_t length);
embed_status emb_counts_writer_put(emb_counts_writer *w, const emb_counts_record *record);
/* The section is complete: its place and checksum go to the header. */
embed_status emb_counts_writer_end(emb_counts_writer *w);
embed_status emb_counts_writer_sync(emb_counts_writer *w);
/* Header written, file synced and renamed to `output`, its directory synced. */
embed_status emb_counts_writer_publish(emb_counts_writer *w, const char *output);

#endif

/* ngram_format: the bytes of a table on disk, all little-endian. README.md beside this file draws
 * them; here they are structs whose sizes are checked at compile time. */
#ifndef EMB_NGRAM_NGRAM_FORMAT_H
#define EMB_NGRAM_NGRAM_FORMAT_H

#include <stdint.h>

#define EMB_NGRAM_VERSION 1
#define EMB_NGRAM_MAX_K 8
#define EMB_NGRAM_NO_ROW                                                                           \
    UINT32_MAX /* a path entry: no row of its own, longer n-grams end in it                        \
                */
#define EMB_NGRAM_FILE_HEADER_BYTES 4096
#define EMB_NGRAM_INDEX_MAGIC 0x58444e4947424d45u /* "EMBGINDX" */
#define EMB_NGRAM_ROWS_MAGIC 0x53574f5247424d45u  /* "EMBGROWS" */

/* First bytes of index.bin and of each rows-NNN.bin; the rest of the 4096 bytes is zero. */
typedef struct emb_ngram_file_header {
    uint64_t magic;
    uint32_t version;
    uint32_t part;          /* 0, 1 .. of the rows files; 0 for the index */
    uint8_t table_id[16];   /* random, the same in all files of one table */
    uint64_t payload_bytes; /* after the header: buckets, or blocks */
    uint64_t count;         /* buckets, or rows in this part */
    uint64_t first_row;
    uint64_t keys; /* index: entries, path entries included */
    uint64_t seed; /* index: hash seed */
    uint32_t row_bytes, rows_per_block, block_bytes;
    uint32_t tag_bytes;        /* encrypted: 16 bytes per block after the payload, else 0 */
    uint64_t payload_checksum; /* index: XXH3-64 of the buckets; rows: 0, each row has its own */
    uint64_t checksum;         /* XXH3-64 of the header with this field zero */
} emb_ngram_file_header;

/* One cache line: 7 entries and the overflow flags. */
#define EMB_NGRAM_BUCKET_ENTRIES 7
typedef struct emb_ngram_bucket {
    uint32_t fingerprint[EMB_NGRAM_BUCKET_ENTRIES];
    uint32_t row[EMB_NGRAM_BUCKET_ENTRIES];
    uint8_t meta[EMB_NGRAM_BUCKET_ENTRIES];
    uint8_t overflow; /* bit s: an entry with selector s went on to the next bucket */
} emb_ngram_bucket;

/* meta */
#define EMB_NGRAM_META_LENGTH 7u     /* length - 1 */
#define EMB_NGRAM_META_EXTENDABLE 8u /* a longer n-gram ends in this one */
#define EMB_NGRAM_META_FINGERPRINT 0x70u
#define EMB_NGRAM_META_USED 0x80u

/* Before each row's vector. */
typedef struct emb_ngram_row_header {
    uint32_t ids[EMB_NGRAM_MAX_K]; /* in text order, unused ones zero */
    float scale;                   /* int8: value = scale * byte; else 1 */
    uint32_t checksum;             /* low 32 bits of XXH3-64 of header (this field zero) + vector */
    uint8_t length;                /* 2 .. 8 */
    uint8_t reserved[3];
    uint32_t count; /* occurrences in the corpus, saturated */
} emb_ngram_row_header;

/* An n-gram on its way into a table; also the record of temporary files. */
typedef struct emb_ngram_fgram {
    uint32_t ids[EMB_NGRAM_MAX_K]; /* in text order, unused ones zero */
    uint32_t count;
    uint8_t length;
    uint8_t reserved[3];
} emb_ngram_fgram;

_Static_assert(sizeof(emb_ngram_bucket) == 64, "one cache line");
_Static_assert(sizeof(emb_ngram_row_header) == 48, "row header");
_Static_assert(sizeof(emb_ngram_fgram) == 40, "n-gram record");
_Static_assert(sizeof(emb_ngram_file_header) == 104, "file header");

#endif

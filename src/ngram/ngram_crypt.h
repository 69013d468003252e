/* ngram_crypt: digests and encryption of tables, over libcrypto. Built without it, every call but
 * emb_ngram_random is EMBED_ERR_UNSUPPORTED. */
#ifndef EMB_NGRAM_NGRAM_CRYPT_H
#define EMB_NGRAM_NGRAM_CRYPT_H

#include "base/alloc.h"

#define EMB_NGRAM_TAG_BYTES 16
#define EMB_NGRAM_INDEX_PART UINT32_MAX   /* part number of the index in nonces */
#define EMB_NGRAM_INDEX_CHUNK (64u << 10) /* the index is sealed in chunks of so many bytes */

embed_status emb_ngram_random(void *out, size_t bytes); /* from the system's generator */

/* SHA-256 of a stream; _finish frees. hex receives 64 digits and NUL. */
typedef struct emb_ngram_sha256 emb_ngram_sha256;
embed_status emb_ngram_sha256_start(emb_ngram_sha256 **out, const emb_env *env);
embed_status emb_ngram_sha256_update(emb_ngram_sha256 *s, const void *data, size_t bytes);
embed_status emb_ngram_sha256_finish(emb_ngram_sha256 *s, char hex[65]);
void emb_ngram_sha256_free(emb_ngram_sha256 *s); /* instead of _finish; NULL is a no-op */

/* AES-256-GCM, one nonce per block: part number and block number. The key of a table is derived
 * (HKDF-SHA256) from the user's key and the table's random salt, so a nonce is never used twice
 * with one key. Immutable, shared by threads. */
typedef struct emb_ngram_cipher emb_ngram_cipher;
/* check receives 32 bytes that tell a wrong key from corrupt data. */
embed_status emb_ngram_cipher_create(emb_ngram_cipher **out, const emb_env *env,
                                     const uint8_t key[32], const uint8_t salt[32],
                                     uint8_t check[32]);
void emb_ngram_cipher_free(emb_ngram_cipher *cipher); /* wipes the key; NULL is a no-op */
/* in and out may be the same; `name` stands for the file in messages. */
embed_status emb_ngram_cipher_seal(const emb_ngram_cipher *cipher, uint32_t part, uint64_t block,
                                   const void *in, size_t bytes, void *out,
                                   uint8_t tag[EMB_NGRAM_TAG_BYTES]);
embed_status emb_ngram_cipher_open(const emb_ngram_cipher *cipher, uint32_t part, uint64_t block,
                                   const void *in, size_t bytes, void *out,
                                   const uint8_t tag[EMB_NGRAM_TAG_BYTES], const char *name);

#endif

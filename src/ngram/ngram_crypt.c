#define _DEFAULT_SOURCE
#include "ngram/ngram_crypt.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

embed_status emb_ngram_random(void *out, size_t bytes) {
    unsigned char *p = out;
    while (bytes > 0) {
        const ssize_t n = getrandom(p, bytes, 0);
        if (n < 0 && errno != EINTR)
            return emb_fail(EMBED_ERR_IO, "the system gave no random bytes");
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
        }
    }
    return EMBED_OK;
}

#if defined(EMB_HAVE_CRYPTO)

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "base/hex.h"

struct emb_ngram_sha256 {
    emb_env env;
    EVP_MD_CTX *ctx;
};

static embed_status fail_crypto(const char *what) {
    return emb_fail(EMBED_ERR_NOMEM, "libcrypto: %s failed", what);
}

embed_status emb_ngram_sha256_start(emb_ngram_sha256 **out, const emb_env *env) {
    emb_ngram_sha256 *s;
    *out = NULL;
    const embed_status st = emb_new(env, sizeof *s, (void **)&s);
    if (st != EMBED_OK)
        return st;
    s->env = *env;
    s->ctx = EVP_MD_CTX_new();
    if (s->ctx == NULL || EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) != 1) {
        emb_ngram_sha256_free(s);
        return fail_crypto("SHA-256");
    }
    *out = s;
    return EMBED_OK;
}

embed_status emb_ngram_sha256_update(emb_ngram_sha256 *s, const void *data, size_t bytes) {
    return EVP_DigestUpdate(s->ctx, data, bytes) == 1 ? EMBED_OK : fail_crypto("SHA-256");
}

embed_status emb_ngram_sha256_finish(emb_ngram_sha256 *s, char hex[65]) {
    unsigned char md[32];
    unsigned n = 0;
    const int good = EVP_DigestFinal_ex(s->ctx, md, &n) == 1 && n == sizeof md;
    emb_ngram_sha256_free(s);
    if (!good)
        return fail_crypto("SHA-256");
    emb_hex_write(md, sizeof md, hex);
    return EMBED_OK;
}

void emb_ngram_sha256_free(emb_ngram_sha256 *s) {
    if (s == NULL)
        return;
    const emb_env env = s->env;
    EVP_MD_CTX_free(s->ctx);
    emb_free(&env, s);
}

struct emb_ngram_cipher {
    emb_env env;
    uint8_t key[32];
};

/* HKDF-SHA256 (RFC 5869): 64 bytes, the cipher's key and the key check. */
static int derive(const uint8_t key[32], const uint8_t salt[32], uint8_t out[64]) {
    static const unsigned char info[] = "embed n-gram table";
    size_t n = 64;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    const int good = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
                     EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256()) == 1 &&
                     EVP_PKEY_CTX_set1_hkdf_salt(ctx, salt, 32) == 1 &&
                     EVP_PKEY_CTX_set1_hkdf_key(ctx, key, 32) == 1 &&
                     EVP_PKEY_CTX_add1_hkdf_info(ctx, info, sizeof info - 1) == 1 &&
                     EVP_PKEY_derive(ctx, out, &n) == 1 && n == 64;
    EVP_PKEY_CTX_free(ctx);
    return good;
}

embed_status emb_ngram_cipher_create(emb_ngram_cipher **out, const emb_env *env,
                                     const uint8_t key[32], const uint8_t salt[32],
                                     uint8_t check[32]) {
    emb_ngram_cipher *c;
    uint8_t derived[64];
    *out = NULL;
    const embed_status st = emb_new(env, sizeof *c, (void **)&c);
    if (st != EMBED_OK)
        return st;
    c->env = *env;
    if (!derive(key, salt, derived)) {
        emb_ngram_cipher_free(c);
        return fail_crypto("HKDF");
    }
    memcpy(c->key, derived, 32);
    memcpy(check, derived + 32, 32);
    OPENSSL_cleanse(derived, sizeof derived);
    *out = c;
    return EMBED_OK;
}

void emb_ngram_cipher_free(emb_ngram_cipher *c) {
    if (c == NULL)
        return;
    const emb_env env = c->env;
    OPENSSL_cleanse(c->key, sizeof c->key);
    emb_free(&env, c);
}

static void nonce_of(uint32_t part, uint64_t block, unsigned char nonce[12]) {
    for (int i = 0; i < 4; i++)
        nonce[i] = (unsigned char)(part >> 8 * i);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (unsigned char)(block >> 8 * i);
}

embed_status emb_ngram_cipher_seal(const emb_ngram_cipher *c, uint32_t part, uint64_t block,
                                   const void *in, size_t bytes, void *out,
                                   uint8_t tag[EMB_NGRAM_TAG_BYTES]) {
    unsigned char nonce[12];
    int n = 0, last = 0;
    nonce_of(part, block, nonce);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    const int good = ctx != NULL && bytes <= INT32_MAX &&
                     EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, c->key, nonce) == 1 &&
                     EVP_EncryptUpdate(ctx, out, &n, in, (int)bytes) == 1 &&
                     EVP_EncryptFinal_ex(ctx, (unsigned char *)out + n, &last) == 1 &&
                     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, EMB_NGRAM_TAG_BYTES, tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return good ? EMBED_OK : fail_crypto("AES-256-GCM");
}

embed_status emb_ngram_cipher_open(const emb_ngram_cipher *c, uint32_t part, uint64_t block,
                                   const void *in, size_t bytes, void *out,
                                   const uint8_t tag[EMB_NGRAM_TAG_BYTES], const char *name) {
    unsigned char nonce[12], copy[EMB_NGRAM_TAG_BYTES];
    int n = 0, last = 0;
    nonce_of(part, block, nonce);
    memcpy(copy, tag, sizeof copy);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    const int ready =
        ctx != NULL && bytes <= INT32_MAX &&
        EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, c->key, nonce) == 1 &&
        EVP_DecryptUpdate(ctx, out, &n, in, (int)bytes) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, EMB_NGRAM_TAG_BYTES, copy) == 1;
    const int good = ready && EVP_DecryptFinal_ex(ctx, (unsigned char *)out + n, &last) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!ready)
        return fail_crypto("AES-256-GCM");
    if (!good)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: block %llu fails its authentication tag: the bytes were changed", name,
                        (unsigned long long)block);
    return EMBED_OK;
}

#else

static embed_status refuse(void) {
    return emb_fail(EMBED_ERR_UNSUPPORTED,
                    "this build of embed has no libcrypto: no SHA-256, no encrypted tables");
}

embed_status emb_ngram_sha256_start(emb_ngram_sha256 **out, const emb_env *env) {
    (void)env;
    *out = NULL;
    return refuse();
}

embed_status emb_ngram_sha256_update(emb_ngram_sha256 *s, const void *data, size_t bytes) {
    (void)s, (void)data, (void)bytes;
    return refuse();
}

embed_status emb_ngram_sha256_finish(emb_ngram_sha256 *s, char hex[65]) {
    (void)s;
    hex[0] = '\0';
    return refuse();
}

void emb_ngram_sha256_free(emb_ngram_sha256 *s) {
    (void)s;
}

embed_status emb_ngram_cipher_create(emb_ngram_cipher **out, const emb_env *env,
                                     const uint8_t key[32], const uint8_t salt[32],
                                     uint8_t check[32]) {
    (void)env, (void)key, (void)salt, (void)check;
    *out = NULL;
    return refuse();
}

void emb_ngram_cipher_free(emb_ngram_cipher *cipher) {
    (void)cipher;
}

embed_status emb_ngram_cipher_seal(const emb_ngram_cipher *cipher, uint32_t part, uint64_t block,
                                   const void *in, size_t bytes, void *out,
                                   uint8_t tag[EMB_NGRAM_TAG_BYTES]) {
    (void)cipher, (void)part, (void)block, (void)in, (void)bytes, (void)out, (void)tag;
    return refuse();
}

embed_status emb_ngram_cipher_open(const emb_ngram_cipher *cipher, uint32_t part, uint64_t block,
                                   const void *in, size_t bytes, void *out,
                                   const uint8_t tag[EMB_NGRAM_TAG_BYTES], const char *name) {
    (void)cipher, (void)part, (void)block, (void)in, (void)bytes, (void)out, (void)tag, (void)name;
    return refuse();
}

#endif

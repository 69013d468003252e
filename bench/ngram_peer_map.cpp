// Dictionaries in memory: std::unordered_map of the C++ library, and tsl::robin_map (Debian:
// robin-map-dev) where it is there. Longest n-gram first, one find each; vectors lie in one array.
#define _Static_assert static_assert // the C header below checks its structs
#include "ngram_peer.h"

#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <memory>
#include <new>
#include <unordered_map>
#include <vector>
#if defined(HAVE_ROBIN_MAP)
#include <tsl/robin_map.h>
#endif

namespace {

struct key {
    uint32_t ids[EMB_NGRAM_MAX_K];
    bool operator==(const key &other) const {
        return std::memcmp(ids, other.ids, sizeof ids) == 0;
    }
};

// Unused ids are all ones, which no token is, so that lengths need no field of their own.
key make_key(const uint32_t *ids, int32_t n) {
    key k;
    std::memset(k.ids, 0xff, sizeof k.ids);
    std::memcpy(k.ids, ids, static_cast<size_t>(n) * sizeof *ids);
    return k;
}

// A hash as good and as cheap as the one of the index; std::hash has none for arrays.
struct hash {
    size_t operator()(const key &k) const {
        uint64_t h = 1;
        for (int i = 0; i < EMB_NGRAM_MAX_K && k.ids[i] != UINT32_MAX; i++) {
            h = (h ^ k.ids[i]) * 0x9fb21c651e98df25u;
            h ^= h >> 32;
        }
        h *= 0xd6e8feb86659fd93u;
        return h ^ h >> 29;
    }
};

uint64_t heap_bytes() {
    const struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

template <class map>
struct dictionary {
    map rows;
    std::vector<uint16_t> vectors;

    static dictionary *of(peer *p) {
        return static_cast<dictionary *>(p->state);
    }

    static int build(peer *p) {
        const peer_data *d = p->data;
        const uint64_t before = heap_bytes();
        try {
            std::unique_ptr<dictionary> made(new dictionary);
            made->rows.reserve(d->n);
            for (size_t i = 0; i < d->n; i++)
                made->rows.emplace(make_key(d->grams[i].ids, d->grams[i].length),
                                   static_cast<uint32_t>(i));
            made->vectors.resize(d->n * static_cast<size_t>(d->width));
            for (size_t i = 0; i < d->n && d->width > 0; i++)
                peer_vector_f16(i, d->width, &made->vectors[i * static_cast<size_t>(d->width)]);
            p->state = made.release();
        } catch (const std::bad_alloc &) {
            return 0;
        }
        p->memory_bytes = heap_bytes() - before;
        return 1;
    }

    uint32_t longest(const int32_t *ids, size_t at, int32_t k_max) const {
        for (int32_t n = at + 1 < static_cast<size_t>(k_max) ? static_cast<int32_t>(at + 1) : k_max;
             n >= 2; n--) {
            const auto found =
                rows.find(make_key(reinterpret_cast<const uint32_t *>(ids) + at + 1 - n, n));
            if (found != rows.end())
                return found->second;
        }
        return UINT32_MAX;
    }

    static int look_up(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                       uint32_t *out) {
        for (size_t t = 0; t < texts; t++)
            for (int32_t i = offsets[t]; i < offsets[t + 1]; i++)
                out[i] = of(p)->longest(ids + offsets[t], static_cast<size_t>(i - offsets[t]),
                                        p->data->k);
        return 1;
    }

    static long fetch_texts(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                            float *out) {
        const size_t width = static_cast<size_t>(p->data->width);
        long hits = 0;
        for (size_t t = 0; t < texts; t++)
            for (int32_t i = offsets[t]; i < offsets[t + 1]; i++) {
                const uint32_t row = of(p)->longest(
                    ids + offsets[t], static_cast<size_t>(i - offsets[t]), p->data->k);
                if (row != UINT32_MAX)
                    peer_widen(&of(p)->vectors[row * width], p->data->width,
                               out + static_cast<size_t>(hits++) * width);
            }
        return hits;
    }

    static int fetch_grams(peer *p, const uint32_t *which, size_t n, float *out) {
        const size_t width = static_cast<size_t>(p->data->width);
        for (size_t i = 0; i < n; i++) {
            const emb_ngram_fgram &g = p->data->grams[which[i]];
            const auto found = of(p)->rows.find(make_key(g.ids, g.length));
            if (found == of(p)->rows.end())
                return 0;
            peer_widen(&of(p)->vectors[found->second * width], p->data->width, out + i * width);
        }
        return 1;
    }

    static void close(peer *p) {
        delete of(p);
        p->state = nullptr;
    }

    static peer make(const char *name, const peer_data *data) {
        peer p = peer();
        p.name = name;
        p.data = data;
        p.build = build;
        p.close = close;
        if (data->width == 0)
            p.look_up = look_up;
        else {
            p.fetch_texts = fetch_texts;
            p.fetch_grams = fetch_grams;
        }
        return p;
    }
};

} // namespace

peer peer_unordered_map(const peer_data *data) {
    return dictionary<std::unordered_map<key, uint32_t, hash>>::make("std::unordered_map", data);
}

peer peer_robin_map(const peer_data *data) {
#if defined(HAVE_ROBIN_MAP)
    return dictionary<tsl::robin_map<key, uint32_t, hash>>::make("tsl::robin_map", data);
#else
    (void)data;
    return peer();
#endif
}

#define _GNU_SOURCE
#include "device/fake_impl.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD_BYTE 0xb5

static uint64_t address(const void *p) {
    return (uint64_t)(uintptr_t)p;
}

static size_t page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static unsigned char *body_end(const fake_block *b) {
    return b->body + b->bytes;
}

/* Between the pages without access. */
static unsigned char *inner(const fake_block *b) {
    return b->map + page_bytes();
}

static size_t inner_bytes(const fake_block *b) {
    return b->map_bytes - 2 * page_bytes();
}

void emb_fake_memory_poison(unsigned char *p, size_t bytes) {
    const uint32_t poison = EMB_FAKE_POISON;
    unsigned char pattern[4];
    memcpy(pattern, &poison, sizeof pattern);
    for (size_t i = 0; i < bytes; i++)
        p[i] = pattern[i % 4];
}

int emb_fake_memory_find_poison(const unsigned char *p, size_t bytes, size_t *at) {
    size_t i = (4 - (address(p) & 3)) & 3; /* words lie where they lay when poisoned */
    for (; i + 4 <= bytes; i += 4) {
        uint32_t word;
        memcpy(&word, p + i, sizeof word);
        if (word == EMB_FAKE_POISON) {
            *at = i;
            return 1;
        }
    }
    return 0;
}

void emb_fake_memory_expose(emb_fake *f, int on) {
    if (f->params.open_memory || f->exposed == on)
        return;
    f->exposed = on;
    for (emb_be_device *d = f->devices; d != NULL; d = d->next)
        for (const fake_block *b = d->blocks; b != NULL; b = b->next)
            (void)mprotect(inner(b), inner_bytes(b), on ? PROT_READ | PROT_WRITE : PROT_NONE);
}

int emb_fake_memory_alloc(emb_be_device *d, size_t bytes, emb_dptr *out, emb_device_error *err) {
    emb_fake *f = d->fake;
    fake_block *b;
    const size_t page = page_bytes();
    *out = (emb_dptr){0};
    if (bytes == 0 || bytes > SIZE_MAX / 2)
        return emb_fake_error(err, EMB_DEVICE_FAILED, "allocation of %zu bytes", bytes);
    if (f->params.memory_bytes != 0 && bytes > f->params.memory_bytes - f->in_use)
        return emb_fake_error(err, EMB_DEVICE_NO_MEMORY,
                              "out of memory: expected %zu bytes, found %llu of %llu free", bytes,
                              (unsigned long long)(f->params.memory_bytes - f->in_use),
                              (unsigned long long)f->params.memory_bytes);
    if (emb_new(&d->env, sizeof *b, (void **)&b) != EMBED_OK)
        return emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory to note an allocation");
    const size_t room = emb_round_up(emb_round_up(bytes, EMB_DEVICE_ALIGN) + EMB_FAKE_GUARD, page);
    b->map_bytes = room + 2 * page;
    void *map =
        mmap(NULL, b->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect((unsigned char *)map + page, room, PROT_READ | PROT_WRITE)) {
        if (map != MAP_FAILED)
            (void)munmap(map, b->map_bytes);
        emb_free(&d->env, b);
        return emb_fake_error(err, EMB_DEVICE_NO_MEMORY, "out of memory: %zu bytes", bytes);
    }
    b->map = map;
    b->bytes = bytes;
    b->body = inner(b) + room - emb_round_up(bytes, EMB_DEVICE_ALIGN);
    memset(inner(b), GUARD_BYTE, (size_t)(b->body - inner(b)));
    emb_fake_memory_poison(b->body, bytes);
    memset(body_end(b), GUARD_BYTE, (size_t)(inner(b) + room - body_end(b)));
    if (!f->params.open_memory && !f->exposed)
        (void)mprotect(inner(b), room, PROT_NONE);
    b->next = d->blocks;
    d->blocks = b;
    f->in_use += bytes;
    if (f->in_use > f->peak)
        f->peak = f->in_use;
    f->live++;
    *out = (emb_dptr){address(b->body)};
    return EMB_DEVICE_OK;
}

static void free_block(emb_be_device *d, fake_block *b) {
    d->fake->in_use -= b->bytes;
    d->fake->live--;
    (void)munmap(b->map, b->map_bytes);
    emb_free(&d->env, b);
}

void emb_fake_memory_free(emb_be_device *d, emb_dptr p) {
    for (fake_block **link = &d->blocks; *link != NULL; link = &(*link)->next)
        if (address((*link)->body) == p.at) {
            fake_block *b = *link;
            *link = b->next;
            free_block(d, b);
            return;
        }
    emb_fake_raise(d, "free: %#llx is no allocation of this device", (unsigned long long)p.at);
}

/* ---- host memory */

static int note_host(emb_be_device *d, void *data, size_t bytes, int pinned,
                     emb_device_error *err) {
    fake_host *h;
    if (emb_new(&d->env, sizeof *h, (void **)&h) != EMBED_OK)
        return emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory to note pinned memory");
    *h = (fake_host){d->hosts, data, bytes, pinned};
    d->hosts = h;
    d->fake->live++;
    return EMB_DEVICE_OK;
}

int emb_fake_host_alloc(emb_be_device *d, size_t bytes, void **out, emb_device_error *err) {
    void *p;
    *out = NULL;
    if (emb_alloc(&d->env, bytes, &p) != EMBED_OK)
        return emb_fake_error(err, EMB_DEVICE_NO_HOST, "out of pinned memory: %zu bytes", bytes);
    const int code = note_host(d, p, bytes, 1, err);
    if (code != EMB_DEVICE_OK) {
        emb_free(&d->env, p);
        return code;
    }
    emb_fake_memory_poison(p, bytes);
    *out = p;
    return EMB_DEVICE_OK;
}

int emb_fake_host_map(emb_be_device *d, const void *host, size_t bytes, emb_dptr *out,
                      emb_device_error *err) {
    if (bytes == 0 || address(host) % page_bytes() != 0)
        return emb_fake_error(err, EMB_DEVICE_FAILED,
                              "host memory to register must start at a page and not be empty");
    *out = (emb_dptr){address(host)};
    return note_host(d, (void *)(uintptr_t)host, bytes, 0, err);
}

void emb_fake_host_drop(emb_be_device *d, const void *p, int pinned) {
    for (fake_host **link = &d->hosts; *link != NULL; link = &(*link)->next) {
        fake_host *h = *link;
        if (h->data != p || h->pinned != pinned)
            continue;
        *link = h->next;
        if (pinned)
            emb_free(&d->env, h->data);
        emb_free(&d->env, h);
        d->fake->live--;
        return;
    }
    emb_fake_raise(d, "free: %p is not %s host memory of this device", p,
                   pinned ? "pinned" : "registered");
}

/* What was not freed is a leak that emb_fake_live keeps counting, but not one of this process. */
void emb_fake_memory_close(emb_be_device *d) {
    const long live = d->fake->live;
    while (d->blocks != NULL) {
        fake_block *b = d->blocks;
        d->blocks = b->next;
        free_block(d, b);
    }
    while (d->hosts != NULL)
        emb_fake_host_drop(d, d->hosts->data, d->hosts->pinned);
    d->fake->live = live;
}

/* ---- ranges, regions, zones */

static int inside(uint64_t at, size_t bytes, uint64_t start, size_t room) {
    return at >= start && at - start <= room && bytes <= room - (at - start);
}

/* The next handle of the same device after `d`; NULL starts. Handles share memory. */
static emb_be_device *next_handle(const emb_be_device *of, emb_be_device *d) {
    d = d == NULL ? of->fake->devices : d->next;
    while (d != NULL && d->index != of->index)
        d = d->next;
    return d;
}

static fake_block *block_at(const emb_be_device *d, uint64_t at, size_t bytes) {
    for (emb_be_device *h = next_handle(d, NULL); h != NULL; h = next_handle(d, h))
        for (fake_block *b = h->blocks; b != NULL; b = b->next)
            if (inside(at, bytes, address(b->body), b->bytes))
                return b;
    return NULL;
}

/* Host memory that a device knows, pinned by us or registered. */
static int is_known_host(const emb_be_device *d, uint64_t at, size_t bytes, int pinned) {
    for (const emb_be_device *h = d->fake->devices; h != NULL; h = h->next)
        for (const fake_host *host = h->hosts; host != NULL; host = host->next)
            if (host->pinned == pinned && (pinned || h->index == d->index) &&
                inside(at, bytes, address(host->data), host->bytes))
                return 1;
    return 0;
}

int emb_fake_host_is_pinned(const emb_be_device *d, const void *p, size_t bytes) {
    return is_known_host(d, address(p), bytes, 1);
}

unsigned char *emb_fake_memory_range(emb_be_device *d, uint64_t at, size_t bytes, int write,
                                     const char *what) {
    const fake_block *b = block_at(d, at, bytes);
    if (b == NULL && !write && is_known_host(d, at, bytes, 0))
        return (unsigned char *)(uintptr_t)at;
    if (b == NULL) {
        emb_fake_raise(d, "%s: %zu bytes at %#llx are no memory of this device", what, bytes,
                       (unsigned long long)at);
        return NULL;
    }
    for (size_t i = 0; i < b->n_regions; i++)
        if (inside(at, bytes, b->regions[i].at, b->regions[i].bytes))
            return (unsigned char *)(uintptr_t)at;
    if (b->n_regions == 0)
        return (unsigned char *)(uintptr_t)at;
    emb_fake_raise(d, "%s: %zu bytes at offset %llu of an arena are inside no live region", what,
                   bytes, (unsigned long long)(at - address(b->body)));
    return NULL;
}

int emb_fake_memory_check_caller(emb_be_device *d, emb_dptr at, size_t bytes,
                                 emb_device_error *err) {
    if (block_at(d, at.at, bytes) != NULL)
        return EMB_DEVICE_OK;
    return emb_fake_error(err, EMB_DEVICE_REFUSED,
                          "expected %zu bytes of this device's memory at %#llx, found other memory",
                          bytes, (unsigned long long)at.at);
}

static int meet(uint64_t a, size_t a_bytes, uint64_t b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/* Regions whose bytes the new one or its zones take are dead. Neighbours share a zone. */
static void drop_overlapped(fake_block *b, uint64_t at, size_t bytes) {
    const size_t zone = EMB_FAKE_GUARD;
    size_t kept = 0;
    for (size_t i = 0; i < b->n_regions; i++) {
        const fake_region *r = &b->regions[i];
        if (!meet(r->at, r->bytes, at - zone, bytes + 2 * zone))
            b->regions[kept++] = *r;
    }
    b->n_regions = kept;
}

void emb_fake_memory_begin_region(emb_be_device *d, uint64_t at, size_t bytes, const char *name) {
    fake_block *b = block_at(d, at, bytes);
    if (b == NULL) {
        emb_fake_raise(d, "region %s: %zu bytes at %#llx are no memory of this device", name, bytes,
                       (unsigned long long)at);
        return;
    }
    const size_t before = at - address(b->body);
    if (before < EMB_FAKE_GUARD || b->bytes - before - bytes < EMB_FAKE_GUARD) {
        emb_fake_raise(d, "region %s: no %d free bytes around it", name, EMB_FAKE_GUARD);
        return;
    }
    drop_overlapped(b, at, bytes);
    if (b->n_regions == FAKE_REGIONS) {
        emb_fake_raise(d, "region %s: more than %d live regions", name, FAKE_REGIONS);
        return;
    }
    b->regions[b->n_regions++] = (fake_region){at, bytes, name};
    unsigned char *p = (unsigned char *)(uintptr_t)at;
    memset(p - EMB_FAKE_GUARD, GUARD_BYTE, EMB_FAKE_GUARD);
    emb_fake_memory_poison(p, bytes);
    memset(p + bytes, GUARD_BYTE, EMB_FAKE_GUARD);
}

static int intact(const unsigned char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (p[i] != GUARD_BYTE)
            return 0;
    return 1;
}

/* What is wrong around one allocation: 0, or 1 after a fault. */
static int check_block(emb_be_device *d, const fake_block *b, const char *what) {
    if (!intact(inner(b), (size_t)(b->body - inner(b))) ||
        !intact(body_end(b), (size_t)(inner(b) + inner_bytes(b) - body_end(b)))) {
        emb_fake_raise(d, "%s wrote outside an allocation of %zu bytes", what, b->bytes);
        return 1;
    }
    for (size_t i = 0; i < b->n_regions; i++) {
        const fake_region *r = &b->regions[i];
        const unsigned char *p = (const unsigned char *)(uintptr_t)r->at;
        const int before = !intact(p - EMB_FAKE_GUARD, EMB_FAKE_GUARD);
        if (before || !intact(p + r->bytes, EMB_FAKE_GUARD)) {
            emb_fake_raise(d, "%s wrote %s region %s", what, before ? "before" : "past", r->name);
            return 1;
        }
    }
    return 0;
}

void emb_fake_memory_check(emb_be_device *d, const char *what) {
    for (emb_be_device *h = next_handle(d, NULL); h != NULL; h = next_handle(d, h))
        for (const fake_block *b = h->blocks; b != NULL; b = b->next)
            if (check_block(d, b, what))
                return;
}

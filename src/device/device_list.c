#define _DEFAULT_SOURCE
#include "device/device_list.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/threads.h"
#include "device/module.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

static void cpu_name(char *out, size_t size) {
    (void)snprintf(out, size, "CPU");
#if defined(__x86_64__) || defined(__i386__)
    uint32_t brand[13] = {0}; /* 48 bytes and an end */
    for (uint32_t i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2],
                         &brand[4 * i + 3]))
            return;
    const char *name = (const char *)brand;
    while (*name == ' ')
        name++;
    if (*name != '\0')
        (void)snprintf(out, size, "%s", name);
#endif
}

static void describe_cpu(embed_device *out) {
    const long page = sysconf(_SC_PAGESIZE), total = sysconf(_SC_PHYS_PAGES),
               left = sysconf(_SC_AVPHYS_PAGES);
    out->kind = EMBED_DEVICE_CPU;
    out->usable = 1;
    out->processors = emb_usable_cpus();
    out->memory_total = total > 0 ? (uint64_t)total * (uint64_t)page : 0;
    out->memory_free = left > 0 ? (uint64_t)left * (uint64_t)page : UINT64_MAX;
    cpu_name(out->name, sizeof out->name);
}

/* A backend without devices, as one entry that says why. */
static void describe_nothing(embed_device *out, const char *reason) {
    out->kind = EMBED_DEVICE_CUDA;
    out->index = -1;
    out->memory_free = UINT64_MAX;
    (void)snprintf(out->name, sizeof out->name, "none");
    (void)snprintf(out->reason, sizeof out->reason, "%s", reason);
}

static void describe_device(const emb_backend *b, int32_t index, embed_device *out) {
    emb_device_facts f;
    emb_device_error err = {""};
    memset(&f, 0, sizeof f);
    out->kind = EMBED_DEVICE_CUDA;
    out->index = index;
    out->memory_free = UINT64_MAX;
    if (b->describe(b->self, index, &f, &err) != EMB_DEVICE_OK) {
        (void)snprintf(out->name, sizeof out->name, "?");
        (void)snprintf(out->reason, sizeof out->reason, "%.*s", (int)sizeof out->reason - 1,
                       err.text);
        return;
    }
    out->usable = f.usable != 0;
    out->capability_major = f.major;
    out->capability_minor = f.minor;
    out->driver = f.driver;
    out->processors = f.multiprocessors;
    out->memory_total = f.memory_total;
    out->memory_free = f.memory_free;
    (void)snprintf(out->name, sizeof out->name, "%s", f.name);
    if (!out->usable)
        (void)snprintf(out->reason, sizeof out->reason, "%s", f.reason);
}

/* Entries after the CPU: the devices, or 1 with `*reason` set. Opens the module into *m. */
static int32_t count_others(emb_module *m, const char *module, emb_device_error *err,
                            const char **reason) {
    int32_t devices = 0;
    *reason = NULL;
    if (emb_module_open(m, module) != EMBED_OK) {
        *reason = emb_fail_sentence();
        return 1;
    }
    if (m->backend->count(m->backend->self, &devices, err) != EMB_DEVICE_OK || devices < 1) {
        *reason = err->text[0] != '\0' ? err->text : "no device";
        return 1;
    }
    return devices;
}

embed_status emb_device_list_count(const char *module, int32_t *count) {
    emb_module m;
    emb_device_error err = {""};
    const char *reason;
    *count = 1 + count_others(&m, module, &err, &reason);
    emb_module_close(&m);
    return EMBED_OK;
}

embed_status emb_device_list_get(const char *module, int32_t i, embed_device *out) {
    emb_module m;
    emb_device_error err = {""};
    const char *reason;
    embed_status st = EMBED_OK;
    memset(out, 0, sizeof *out);
    if (i == 0) {
        describe_cpu(out);
        return EMBED_OK;
    }
    const int32_t others = count_others(&m, module, &err, &reason);
    if (i < 0 || i > others)
        st = emb_fail(EMBED_ERR_ARG, "i: expected a number below %d, the devices, found %d",
                      others + 1, i);
    else if (reason != NULL)
        describe_nothing(out, reason);
    else
        describe_device(m.backend, i - 1, out);
    emb_module_close(&m);
    return st;
}

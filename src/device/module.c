#define _GNU_SOURCE
#include "device/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where the module is installed as seen from the directory of the library or the program. */
static const char *const places[] = {"", "../lib/", "../lib64/"};

static void *load(const char *path) {
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

/* The directory of the object that holds this function, with its slash; "" if not known. A program
 * found through PATH has no directory in its name, but the kernel knows it. */
static void own_directory(char *out, size_t size) {
    Dl_info info;
    out[0] = '\0';
    if (dladdr(places, &info) != 0 && info.dli_fname != NULL &&
        strchr(info.dli_fname, '/') != NULL) {
        (void)snprintf(out, size, "%s", info.dli_fname);
    } else {
        const ssize_t n = readlink("/proc/self/exe", out, size - 1);
        out[n > 0 ? n : 0] = '\0';
    }
    char *slash = strrchr(out, '/');
    if (slash == NULL || strlen(out) == size - 1) /* cut short */
        out[0] = '\0';
    else
        slash[1] = '\0';
}

/* A file that is there but does not load is a failure, not a reason to look further. */
static embed_status find(emb_module *m, const char *name) {
    char here[1024], path[1200];
    own_directory(here, sizeof here);
    for (size_t i = 0; here[0] != '\0' && i < sizeof places / sizeof places[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s%s", here, places[i], name);
        if (access(path, F_OK) != 0)
            continue;
        m->handle = load(path);
        if (m->handle == NULL)
            return emb_fail(EMBED_ERR_DEVICE, "%s", dlerror());
        return EMBED_OK;
    }
    m->handle = load(name);
    if (m->handle == NULL)
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        "no module: %s is neither beside the library (%s) nor where the dynamic "
                        "linker looks; it is made by %s",
                        name, here[0] != '\0' ? here : "?",
                        strcmp(name, EMB_CUDA_MODULE) == 0 ? "a build with EMBED_CUDA=ON"
                                                           : "the CMake preset emulation");
    return EMBED_OK;
}

static embed_status check_version(const emb_backend *b, const char *path) {
    if (b->abi == EMB_BACKEND_ABI && b->library_version == EMBED_VERSION)
        return EMBED_OK;
    const unsigned theirs = b->library_version;
    return emb_fail(EMBED_ERR_DEVICE,
                    "%s: expected version %d.%d.%d with interface %u like this library, found "
                    "version %u.%u.%u with interface %u; install both from one build",
                    path, EMBED_VERSION_MAJOR, EMBED_VERSION_MINOR, EMBED_VERSION_PATCH,
                    EMB_BACKEND_ABI, theirs / 1000000, theirs / 1000 % 1000, theirs % 1000, b->abi);
}

/* Entry and version of what is loaded; closes it if they are not ours. */
static embed_status enter(emb_module *m, const char *path) {
    embed_status st;
    emb_backend_entry entry = NULL;
    void *symbol = dlsym(m->handle, EMB_BACKEND_ENTRY);
    if (symbol == NULL) {
        st = emb_fail(EMBED_ERR_DEVICE, "%s: no function %s: not a module of this library", path,
                      EMB_BACKEND_ENTRY);
        goto fail;
    }
    memcpy(&entry, &symbol, sizeof entry); /* POSIX: they have one representation */
    const emb_backend *b = entry(EMB_BACKEND_ABI);
    EMB_TRY(check_version(b, path));
    m->backend = b;
    return EMBED_OK;
fail:
    emb_module_close(m);
    return st;
}

embed_status emb_module_find(emb_module *m, const char *name) {
    *m = (emb_module){NULL, NULL};
    const embed_status st = find(m, name);
    return st != EMBED_OK ? st : enter(m, name);
}

embed_status emb_module_open(emb_module *m, const char *path) {
    if (path == NULL)
        return emb_module_find(m, EMB_CUDA_MODULE);
    *m = (emb_module){load(path), NULL};
    return m->handle == NULL ? emb_fail(EMBED_ERR_DEVICE, "%s", dlerror()) : enter(m, path);
}

void emb_module_close(emb_module *m) {
    if (m->handle != NULL)
        (void)dlclose(m->handle);
    *m = (emb_module){NULL, NULL};
}

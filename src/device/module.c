#define _GNU_SOURCE
#include "device/module.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the module is installed as seen from the directory of the library or the program. */
static const char *const places[] = {"", "../lib/", "../lib64/"};

static void *load(const char *path) {
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

static int ends_within(uint64_t offset, uint64_t bytes, uint64_t end) {
    return offset <= end && bytes <= end - offset;
}

/* Whether a file has all that its own headers speak of. What they do not say of other files than
 * ELF of 64 bits is left to the linker. */
static int is_whole(int file, uint64_t size) {
    Elf64_Ehdr head;
    Elf64_Phdr part;
    if (pread(file, &head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
        head.e_phentsize != sizeof part)
        return 1;
    if (!ends_within(head.e_shoff, (uint64_t)head.e_shnum * head.e_shentsize, size) ||
        !ends_within(head.e_phoff, (uint64_t)head.e_phnum * sizeof part, size))
        return 0;
    for (uint64_t i = 0; i < head.e_phnum; i++)
        if (pread(file, &part, sizeof part, (off_t)(head.e_phoff + i * sizeof part)) !=
                (ssize_t)sizeof part ||
            !ends_within(part.p_offset, part.p_filesz, size))
            return 0;
    return 1;
}

/* The dynamic linker maps a file that was cut and touches what is not there: SIGBUS. */
static embed_status load_file(emb_module *m, const char *path) {
    struct stat facts;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    int whole = 1; /* what cannot be opened has a message of the linker's own */
    if (file >= 0) {
        if (fstat(file, &facts) == 0 && S_ISREG(facts.st_mode))
            whole = is_whole(file, (uint64_t)facts.st_size);
        (void)close(file);
    }
    if (!whole)
        return emb_fail(EMBED_ERR_DEVICE, "%s: the file is cut short: install it anew", path);
    m->handle = load(path);
    return m->handle == NULL ? emb_fail(EMBED_ERR_DEVICE, "%s", dlerror()) : EMBED_OK;
}

/* The object that holds this function; "" if not known. A program found through PATH has no
 * directory in its name, but the kernel knows it. */
static void own_file(char *out, size_t size) {
    Dl_info info;
    out[0] = '\0';
    if (dladdr(places, &info) != 0 && info.dli_fname != NULL &&
        strchr(info.dli_fname, '/') != NULL) {
        (void)snprintf(out, size, "%s", info.dli_fname);
    } else {
        const ssize_t n = readlink("/proc/self/exe", out, size - 1);
        out[n > 0 ? n : 0] = '\0';
    }
}

/* The same file without links on the way to it. */
static void resolve(char *out, size_t size, const char *path) {
    char name[40];
    const int file = open(path, O_PATH | O_CLOEXEC);
    out[0] = '\0';
    if (file < 0)
        return;
    (void)snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    const ssize_t n = readlink(name, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    (void)close(file);
}

/* With its slash; "" for a path that was cut. */
static void keep_directory(char *path, size_t size) {
    char *slash = strrchr(path, '/');
    if (slash == NULL || strlen(path) == size - 1)
        path[0] = '\0';
    else
        slash[1] = '\0';
}

/* A file that is there but does not load is a failure, not a reason to look further. */
static embed_status find(emb_module *m, const char *name) {
    enum { PLACES = sizeof places / sizeof places[0] };
    char here[1024], resolved[1024], path[1200];
    own_file(here, sizeof here);
    resolve(resolved, sizeof resolved, here);
    keep_directory(here, sizeof here);
    keep_directory(resolved, sizeof resolved);
    for (size_t i = 0; i < 2 * (size_t)PLACES; i++) {
        const char *from = i < PLACES ? here : resolved;
        if (from[0] == '\0')
            continue;
        (void)snprintf(path, sizeof path, "%s%s%s", from, places[i % PLACES], name);
        if (access(path, F_OK) == 0)
            return load_file(m, path);
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
    if (b == NULL) {
        st = emb_fail(EMBED_ERR_DEVICE, "%s: refuses interface %u: install it from the same build",
                      path, EMB_BACKEND_ABI);
        goto fail;
    }
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
    *m = (emb_module){NULL, NULL};
    const embed_status st = load_file(m, path);
    return st != EMBED_OK ? st : enter(m, path);
}

void emb_module_close(emb_module *m) {
    if (m->handle != NULL)
        (void)dlclose(m->handle);
    *m = (emb_module){NULL, NULL};
}

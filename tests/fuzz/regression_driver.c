/* Replays inputs without libFuzzer: every file of the folders named, its every start (up to 512,
 * then 64 of them), and seeded mutations of it. Aborts as libFuzzer would; ctest runs it. */
#include <dirent.h>

#include "fuzz/fuzz.h"

#define MUTANTS 64

static uint64_t rng = 20261123;

static uint64_t next(void) { /* SplitMix64 */
    uint64_t z = (rng += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A copy of the right size, so that a sanitizer sees the first byte read beyond it. */
static void call(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    FUZZ_CHECK(copy);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static size_t replay(const char *path) {
    FILE *f = fopen(path, "rb");
    FUZZ_CHECK(f);
    FUZZ_CHECK(fseek(f, 0, SEEK_END) == 0);
    const size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(size + 1), *mutant = malloc(size + 1);
    FUZZ_CHECK(data && mutant);
    FUZZ_CHECK(fread(data, 1, size, f) == size);
    fclose(f);
    size_t calls = 1;
    call(data, size);
    const size_t step = size <= 512 ? 1 : size / 64;
    for (size_t n = 0; n < size; n += step, calls++)
        call(data, n);
    for (int i = 0; i < MUTANTS && size; i++, calls++) {
        memcpy(mutant, data, size);
        for (uint64_t k = 1 + next() % 4; k > 0; k--) {
            const uint64_t mark = (uint8_t) "\"{}[]:,0-\xff"[next() % 10];
            mutant[next() % size] = (uint8_t)(next() % 3 ? next() : mark);
        }
        call(mutant, size);
    }
    free(data);
    free(mutant);
    return calls;
}

int main(int argc, char **argv) {
    size_t files = 0, calls = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) {
            fprintf(stderr, "%s: no such folder\n", argv[i]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            char path[1024];
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            calls += replay(path);
            files++;
        }
        closedir(folder);
    }
    printf("%zu files, %zu inputs\n", files, calls);
    return files == 0;
}

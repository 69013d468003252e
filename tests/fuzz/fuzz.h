/* fuzz: what every fuzz target shares. A target defines LLVMFuzzerTestOneInput; it is linked with
 * libFuzzer (EMBED_BUILD_FUZZERS) or with regression_driver.c, which replays its corpus. */
#ifndef EMB_TESTS_FUZZ_FUZZ_H
#define EMB_TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for every input; abort() is how libFuzzer and ctest learn of it. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s (%s)\n", __FILE__, __LINE__, #condition,     \
                    emb_fail_message());                                                           \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* An environment whose allocator refuses once 512 MiB are in use, so that a hostile size is an
 * error of the call and not the end of the machine. */
emb_env fuzz_env(void);

/* A file with these bytes that lives in memory; returns its path, valid until the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* A failure must come with its message, "EMBED_ERR_...: something". */
void fuzz_check_status(embed_status status);

#endif

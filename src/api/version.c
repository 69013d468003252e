#include "base/status.h"

uint32_t embed_version(void) {
    return EMBED_VERSION;
}

const char *embed_last_error(void) {
    return emb_fail_message();
}

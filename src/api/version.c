#include "embed.h"

uint32_t embed_version(void) {
    return EMBED_VERSION;
}

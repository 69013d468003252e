#include <cstdio>

#include <embed.h>

int main() {
    embed_model_info info = {};
    info.struct_size = sizeof info;
    const embed_status status = embed_model_get_info(nullptr, &info);
    std::printf("%u %s\n", static_cast<unsigned>(embed_version()), embed_status_name(status));
    return status == EMBED_ERR_ARG ? 0 : 1;
}

// raii: the shared library from C++. Two deleters are all that is needed; there is no wrapper
// library. usage: raii MODEL_DIR TEXT TEXT
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "embed.h"

namespace {

struct Free {
    void operator()(embed_model *model) const {
        embed_model_free(model);
    }
    void operator()(embed_context *ctx) const {
        embed_context_free(ctx);
    }
};
using Model = std::unique_ptr<embed_model, Free>;
using Context = std::unique_ptr<embed_context, Free>;

void check(embed_status status) {
    if (status != EMBED_OK)
        throw std::runtime_error(embed_last_error());
}

Model open_model(const char *path) {
    embed_model *model = nullptr;
    check(embed_model_open(&model, path, nullptr));
    return Model(model);
}

Context make_context(const Model &model) {
    embed_context *ctx = nullptr;
    check(embed_context_create(&ctx, model.get(), nullptr));
    return Context(ctx);
}

std::vector<float> encode(const Model &model, const Context &ctx,
                          const std::vector<std::string_view> &texts) {
    std::vector<embed_text> spans;
    for (std::string_view text : texts)
        spans.push_back({text.data(), text.size()});
    std::size_t need = 0;
    check(embed_output_len(model.get(), nullptr, spans.size(), &need));
    std::vector<float> out(need);
    check(embed_encode(ctx.get(), spans.data(), spans.size(), nullptr, out.data(), out.size()));
    return out;
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: raii MODEL_DIR TEXT TEXT\n");
        return 2;
    }
    try {
        const Model model = open_model(argv[1]);
        const Context ctx = make_context(model);
        const std::vector<float> rows = encode(model, ctx, {argv[2], argv[3]});
        const std::size_t dim = rows.size() / 2;
        std::printf("%.6f\n", embed_cosine(rows.data(), rows.data() + dim, dim));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "raii: %s\n", error.what());
        return 1;
    }
    return 0;
}

/* Uses one call of each room of the library, so that every dependency must be found. */
#include <stdio.h>

#include <embed.h>

int main(int argc, char **argv) {
    embed_model *model = NULL;
    const embed_status status = embed_model_open(&model, argc > 1 ? argv[1] : "", NULL);
    printf("%u %s\n", (unsigned)embed_version(), embed_status_name(status));
    embed_model_free(model);
    return embed_version() == EMBED_VERSION ? 0 : 1;
}

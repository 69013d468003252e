/* choices_out: what runs the products of a context on a device, as the library decided it. */
#ifndef EMBED_PROGRAM_CHOICES_OUT_H
#define EMBED_PROGRAM_CHOICES_OUT_H

#include "embed.h"
#include "json_out.h"

/* Decisions for a library, so that bits may depend on the size of a batch; -1 after a message. */
int choices_count(const char *who, const embed_context *ctx);
/* A table on stdout, or an array "products" in `object`; an exit code. */
int choices_print(const char *who, const embed_context *ctx);
int choices_json(const char *who, const embed_context *ctx, json_doc *doc, json_value *object);

#endif

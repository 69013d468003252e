/* params: structs that grow over time, told apart by their first field, struct_size. */
#ifndef EMB_API_PARAMS_H
#define EMB_API_PARAMS_H

#include "base/status.h"

/* Copy a caller's params struct into *ours, a struct of ours_bytes that starts with struct_size.
 * NULL gives all defaults (zeros); fields the caller does not know are zero; fields that we do not
 * know must be zero, else EMBED_ERR_ABI. `name` is the type for the message. */
embed_status emb_params_read(void *ours, size_t ours_bytes, const void *theirs, const char *name);

/* Fill a caller's struct from ours, as far as theirs reaches; bytes beyond ours become zero. Its
 * struct_size stays. */
embed_status emb_params_write(void *theirs, const void *ours, size_t ours_bytes, const char *name);

#endif

/* device_choices: which of several ways each product of a model runs on a kind of device, as it was
 * decided once and stays for the life of the model, so that all contexts and all devices of that
 * kind give the same bits; and the record of what was measured. Part of the model. */
#ifndef EMB_MODEL_DEVICE_CHOICES_H
#define EMB_MODEL_DEVICE_CHOICES_H

#include <pthread.h>

#include "device/device.h"
#include "model/model.h"

enum { EMB_CHOICE_ATTENTION = 100 };

/* One decision. */
typedef struct emb_choice {
    int32_t what;             /* emb_dense, or EMB_CHOICE_ATTENTION */
    int32_t strategy;         /* EMBED_PRODUCTS_OWN or _LIBRARY */
    int64_t rows;             /* of the bucket */
    int64_t n, k;             /* attention: texts and the longest, of the bucket */
    float own_us, library_us; /* the least of several runs; 0: not measured */
    char algorithm[128];      /* of the library */
    char reason[256];
} emb_choice;

/* What two timed ways say: ours and the library's, which has to be the faster one by a tenth, or
 * wished for. */
void emb_choice_settle(emb_choice *choice, int32_t policy, const float us[2]);
/* What the library does not do: ours, for the reason of the last failure. */
void emb_choice_refused(emb_choice *choice);

/* What one set of decisions is for, beside the model and the kind of device. */
typedef struct emb_choices_key {
    int32_t dtype, tf32, policy; /* policy: embed_device_products */
} emb_choices_key;

typedef struct emb_device_choices {
    struct emb_device_choices *next;
    const emb_backend *backend;
    char hardware[128];
    emb_choices_key key;
    emb_env env;
    pthread_mutex_t mutex; /* guards the rest; held while something is measured */
    emb_choice *items;
    size_t n, capacity;
} emb_device_choices;

/* Those for this kind of device, made when first asked for. */
embed_status emb_device_choices_get(emb_device_choices **out, embed_model *model,
                                    const emb_device *device, const emb_choices_key *key);
void emb_device_choices_free(embed_model *model);

/* With the mutex held: the decision about this shape, NULL if there is none yet; and a new one. */
const emb_choice *emb_device_choices_find(const emb_device_choices *c, int32_t what, int64_t rows,
                                          int64_t n, int64_t k);
embed_status emb_device_choices_add(emb_device_choices *c, const emb_choice *choice);
/* Number i in the order of deciding, 0 if there are fewer; *n: how many. Any thread. */
int emb_device_choices_read(emb_device_choices *c, size_t i, emb_choice *choice, size_t *n);

#endif

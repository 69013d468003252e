/* device_home: devices that a model was brought to; part of the model until that is freed. */
#ifndef EMB_MODEL_DEVICE_HOME_H
#define EMB_MODEL_DEVICE_HOME_H

#include "device/module.h"
#include "model/device_weights.h"

typedef struct emb_device_home {
    struct emb_device_home *next;
    emb_device *device;
    const emb_backend *backend;
    int32_t index, reserved;
    emb_device_weights weights;
} emb_device_home;

/* The model's weights of this type on this device: those that are there, or uploaded now. Any
 * thread; whoever comes second waits. The backend must outlive the model. */
embed_status emb_device_home_get(const emb_device_home **out, embed_model *model,
                                 const emb_backend *backend, int32_t index, int32_t dtype);

/* The same for n different devices: out[r] on indices[r]. What devices have in common is read from
 * the model's files once, for the first of them, and broadcast to the others; where they cannot
 * talk to each other (the log says why) each gets it from the host. sharded: out[r] holds the
 * experts e with e mod n == r only. All or nothing. */
embed_status emb_device_homes_get(const emb_device_home **out, embed_model *model,
                                  const emb_backend *backend, const int32_t *indices, int32_t n,
                                  int32_t dtype, int sharded);
/* 1: the model is on that one device already. */
int emb_device_home_there(const embed_model *model, const emb_backend *backend, int32_t index,
                          int32_t dtype);
void emb_device_homes_free(embed_model *model);

#endif

/* device_trials: two ways of doing the same work on a device, timed side by side with its events.
 * Each is captured several times over into a graph, so that neither launches nor the host count,
 * and what cannot be captured fails here and not in a batch. The stream may have work before it;
 * the host waits. */
#ifndef EMB_MODEL_DEVICE_TRIALS_H
#define EMB_MODEL_DEVICE_TRIALS_H

#include "device/device.h"

/* Enqueue the work once. */
typedef embed_status (*emb_trial_fn)(void *arg, emb_stream *s);

/* us: microseconds of each, the least of three measurements; zeros on a device without a clock. */
embed_status emb_device_trial_run(emb_stream *s, const emb_trial_fn ways[2], void *arg,
                                  float us[2]);
/* The same without graphs, for long work that does not go into one. */
embed_status emb_device_trial_plain(emb_stream *s, const emb_trial_fn ways[2], void *arg,
                                    float us[2]);

#endif

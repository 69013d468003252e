#include "model/device_trials.h"

#define ROUNDS 3
#define ROUND_MS 0.2f /* of one way in one round, about */
#define MOST_REPEATS 16

typedef struct trial {
    emb_stream *stream;
    const emb_trial_fn *ways;
    void *arg;
    int repeats, plain;
    emb_event *at[3]; /* before the first, between them, after the second */
    emb_graph *graphs[2];
} trial;

/* Both once or, where they are captured, as often as they were; *ms gets the time of each. */
static embed_status measure(trial *t, float ms[2]) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_event_record(t->at[0], t->stream));
    for (int i = 0; i < 2; i++) {
        EMB_TRY(t->graphs[i] != NULL ? emb_graph_launch(t->graphs[i], t->stream)
                                     : t->ways[i](t->arg, t->stream));
        EMB_TRY(emb_event_record(t->at[i + 1], t->stream));
    }
    EMB_TRY(emb_event_sync(t->at[2]));
    for (int i = 0; i < 2; i++)
        EMB_TRY(emb_event_elapsed(t->at[i], t->at[i + 1], &ms[i]));
fail:
    return st;
}

static embed_status capture(trial *t, int way) {
    embed_status st = emb_capture_begin(t->stream);
    if (st != EMBED_OK)
        return st;
    for (int i = 0; i < t->repeats && st == EMBED_OK; i++)
        st = t->ways[way](t->arg, t->stream);
    return st != EMBED_OK ? emb_capture_give_up(t->stream, st)
                          : emb_capture_end(t->stream, &t->graphs[way], NULL);
}

static embed_status run(trial *t, float us[2]) {
    embed_status st = EMBED_OK;
    float ms[2] = {0, 0};
    us[0] = us[1] = 0;
    EMB_TRY(measure(t, ms)); /* the first launch of a kernel loads its code */
    if (ms[0] <= 0 && ms[1] <= 0)
        return EMBED_OK;
    EMB_TRY(measure(t, ms));
    const float slower = ms[0] > ms[1] ? ms[0] : ms[1];
    t->repeats = slower * MOST_REPEATS <= ROUND_MS ? MOST_REPEATS
                 : slower < ROUND_MS               ? (int)(ROUND_MS / slower)
                                                   : 1;
    if (t->plain)
        t->repeats = 1;
    for (int i = 0; i < 2 && !t->plain; i++)
        EMB_TRY(capture(t, i));
    for (int round = 0; round < ROUNDS; round++) {
        EMB_TRY(measure(t, ms));
        for (int i = 0; i < 2; i++) {
            const float once = 1000 * ms[i] / (float)t->repeats;
            us[i] = round == 0 || once < us[i] ? once : us[i];
        }
    }
fail:
    return st;
}

static embed_status contest(emb_stream *s, const emb_trial_fn ways[2], void *arg, int plain,
                            float us[2]) {
    embed_status st = EMBED_OK;
    trial t = {.stream = s, .ways = ways, .arg = arg, .plain = plain};
    for (int i = 0; i < 3; i++)
        EMB_TRY(emb_event_create(&t.at[i], emb_stream_device(s), 1));
    EMB_TRY(run(&t, us));
fail:
    for (int i = 0; i < 3; i++)
        emb_event_free(t.at[i]);
    for (int i = 0; i < 2; i++)
        emb_graph_free(t.graphs[i]);
    return st;
}

embed_status emb_device_trial_run(emb_stream *s, const emb_trial_fn ways[2], void *arg,
                                  float us[2]) {
    return contest(s, ways, arg, 0, us);
}

embed_status emb_device_trial_plain(emb_stream *s, const emb_trial_fn ways[2], void *arg,
                                    float us[2]) {
    return contest(s, ways, arg, 1, us);
}

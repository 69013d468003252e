#include "model/rotary.h"

#include <math.h>

/* angle(position, i) = position * base^(-2i / rotary_dim): Su et al. 2021, arXiv:2104.09864,
 * sec. 3.2.2. Computed in double and rounded once: in float the angle of position 8000 would be
 * off by 5e-4. */
embed_status emb_rotary_build(embed_model *m) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &m->config.encoder;
    const size_t half = (size_t)c->rotary_dim / 2,
                 positions = (size_t)m->config.pipeline.max_tokens;
    size_t count;
    if (half == 0)
        return EMBED_OK;
    EMB_TRY(emb_mul(positions, half, "rotary table", &count));
    EMB_TRY(emb_new_array(&m->env, count, sizeof *m->cos, (void **)&m->cos));
    EMB_TRY(emb_new_array(&m->env, count, sizeof *m->sin, (void **)&m->sin));
    for (size_t i = 0; i < half; i++) {
        const double frequency = pow(c->rope_base, -(2.0 * (double)i) / (double)c->rotary_dim);
        for (size_t p = 0; p < positions; p++) {
            m->cos[p * half + i] = (float)cos((double)p * frequency);
            m->sin[p * half + i] = (float)sin((double)p * frequency);
        }
    }
fail: /* the model owns what was allocated */
    return st;
}

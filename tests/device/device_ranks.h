/* device_ranks: a tiny checkpoint on several fake devices, against one. */
#ifndef TEST_DEVICE_RANKS_H
#define TEST_DEVICE_RANKS_H

#include "support/device_world.h"

#include "api/place.h"
#include "model/device_group.h"

enum { RANK_COUNTS = 4 };
extern const int32_t rank_counts[RANK_COUNTS]; /* 1, 2, 3, 8 */

tiny_spec small_moe_spec(void); /* 2 layers, 3 experts */

void make_fakes(world *w, uint64_t seed, int32_t devices);
void make_fakes_without(world *w, uint64_t seed, int32_t devices, const char *no_comm);
void make_fakes_with(world *w, uint64_t seed, int32_t devices, uint64_t memory_bytes);

/* Devices 0 .. n - 1 of w's fake. */
emb_places places_of(const world *w, int32_t dtype, int32_t n, int32_t placement);
embed_status on_devices(world *w, embed_table *table, int32_t dtype, int32_t n, int32_t placement,
                        embed_context **ctx);
/* All texts, as `output`, f32 or f16. */
embed_status encode_as(embed_context *ctx, const world *w, int32_t output, float *out);
/* The vectors of one device, in a world that has none now. */
void one_device(world *w, embed_table *table, int32_t dtype, int32_t output, float *want);
/* Statistics of the last call, of all texts, against those of the CPU. */
void check_experts_against(const world *w, const embed_context *ctx, int32_t dtype);

typedef struct table_on_disk {
    test_grams grams;
    char dir[256];
    embed_table *table;
} table_on_disk;
void table_open(table_on_disk *t, world *w);
void table_close(table_on_disk *t);
/* Statistics of the last call: a row of floats crossed for each position that matched. */
void check_rows_against(const world *w, const embed_context *ctx);

/* Faults, of a small MoE. */
void every_call_fails(int32_t placement, int32_t ranks);
void every_allocation_fails(int32_t placement, int32_t ranks);
void one_device_is_lost(int32_t placement);

#endif

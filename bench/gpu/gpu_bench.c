/* gpu_bench: speed on a GPU beside the limits of the same run; bench/gpu.sh runs it. */
#include "gpu/gpu_bench.h"

#include <stdlib.h>
#include <string.h>

#include "device/module.h"

static const struct {
    const char *name;
    gpu_section_fn run;
} sections[] = {{"limits", gpu_section_limits},       {"memory", gpu_section_memory},
                {"products", gpu_section_products},   {"moe", gpu_section_moe},
                {"attention", gpu_section_attention}, {"model", gpu_section_model},
                {"mixed", gpu_section_mixed},         {"table", gpu_section_table}};
enum { SECTIONS = sizeof sections / sizeof sections[0] };

static const char usage[] =
    "usage: gpu_bench [OPTION]...\n"
    "  --device cuda|emulated  (cuda)\n"
    "  --quick                 tiny shapes, one round: checks the program, says nothing of speed\n"
    "  --only LIST             sections: limits, memory, products, moe, attention, model, mixed,\n"
    "                          table (all); limits are always measured\n"
    "  --rounds N              rounds of each comparison (7)\n"
    "  --model DIR             checkpoint of the model sections (written: nomic v2 shape, random)\n"
    "  --work DIR              where what is written goes (.)\n"
    "  --csv FILE              results, one row a line\n";

struct options {
    const char *only, *csv;
};

static int options_read(gpu_bench *b, struct options *o, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(name, "--quick") == 0) {
            b->quick = 1;
            b->rounds = 1;
            continue;
        }
        if (++i >= argc)
            return 0;
        if (strcmp(name, "--device") == 0 && strcmp(value, "cuda") == 0)
            b->kind = EMBED_DEVICE_CUDA;
        else if (strcmp(name, "--device") == 0 && strcmp(value, "emulated") == 0)
            b->kind = EMBED_DEVICE_EMULATED;
        else if (strcmp(name, "--only") == 0)
            o->only = value;
        else if (strcmp(name, "--rounds") == 0)
            b->rounds = atoi(value);
        else if (strcmp(name, "--model") == 0)
            b->model_dir = value;
        else if (strcmp(name, "--work") == 0)
            b->work_dir = value;
        else if (strcmp(name, "--csv") == 0)
            o->csv = value;
        else
            return 0;
    }
    return b->rounds >= 1 && b->rounds <= GPU_MAX_ROUNDS;
}

/* Whether a name is in a comma-separated list; every name is in NULL. */
static int listed(const char *list, const char *name) {
    const size_t n = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, n) == 0 && (at[n] == '\0' || at[n] == ','))
            return 1;
    }
    return list == NULL;
}

static embed_status device_open(gpu_bench *b, emb_module *m) {
    emb_device_facts facts;
    emb_device_error err = {""};
    embed_status st = EMBED_OK;
    EMB_TRY(
        emb_module_find(m, b->kind == EMBED_DEVICE_CUDA ? EMB_CUDA_MODULE : EMB_EMULATED_MODULE));
    b->backend = m->backend;
    EMB_TRY(emb_device_open(&b->device, &b->env, b->backend, 0));
    EMB_TRY(emb_stream_create(&b->stream, b->device));
    EMB_TRY(emb_event_create(&b->from, b->device, 1));
    EMB_TRY(emb_event_create(&b->to, b->device, 1));
    EMB_TRY(emb_device_host_alloc(b->device, GPU_STAGING, (void **)&b->pinned));
    if (b->backend->describe(b->backend->self, 0, &facts, &err) == EMB_DEVICE_OK) {
        b->capability = 10 * facts.major + facts.minor;
        printf("device: %s, compute capability %d.%d, %d multiprocessors, driver %d\n", facts.name,
               facts.major, facts.minor, facts.multiprocessors, facts.driver);
    }
fail:
    return st;
}

static void device_close(gpu_bench *b) {
    emb_device_host_free(b->device, b->pinned);
    emb_event_free(b->from);
    emb_event_free(b->to);
    emb_stream_free(b->stream);
    emb_device_close(b->device);
}

static int run_sections(gpu_bench *b, const char *only) {
    int failed = 0;
    for (size_t i = 0; i < SECTIONS; i++) {
        b->section = sections[i].name;
        if (i > 0 && !listed(only, sections[i].name))
            continue;
        printf("\n%s\n", sections[i].name);
        (void)fflush(stdout);
        if (sections[i].run(b) != EMBED_OK) {
            printf("FAILED   %s: %s\n", sections[i].name, embed_last_error());
            failed++;
        }
        gpu_free_arrays(b);
    }
    printf("\n%d goals reached, %d missed, %d not measured, %d sections failed\n", b->reached,
           b->missed, b->untold, failed);
    return failed;
}

int main(int argc, char **argv) {
    gpu_bench b = {.kind = EMBED_DEVICE_CUDA, .rounds = 7, .work_dir = "."};
    struct options o = {NULL, NULL};
    emb_module module = {NULL, NULL};
    int failed = 1;
    if (!options_read(&b, &o, argc, argv)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (o.csv != NULL && (b.csv = fopen(o.csv, "w")) == NULL) {
        perror(o.csv);
        return 1;
    }
    if (b.csv != NULL)
        (void)fputs("section,what,shape,dtype,seconds,bytes,flops,gb_s,tflop_s,roofline_s,"
                    "roofline_pct,ratio,ratio_least,ratio_most,value,goal,result,against,measure,"
                    "note\n",
                    b.csv);
    if (emb_env_init(&b.env, NULL, NULL, NULL) != EMBED_OK || device_open(&b, &module) != EMBED_OK)
        printf("FAILED   %s\n", embed_last_error());
    else
        failed = run_sections(&b, o.only);
    device_close(&b);
    emb_module_close(&module);
    if (b.csv != NULL && fclose(b.csv) != 0)
        failed++;
    return failed > 0;
}

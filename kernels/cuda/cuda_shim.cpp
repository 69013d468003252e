#include "kernels/cuda/cuda_shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "kernels/cuda/cuda_emulation.h"
#include "kernels/cuda/cuda_shim_sched.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SHIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SHIM_ASAN 1
#endif
#endif
#if defined(SHIM_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SHIM_PLAIN __attribute__((no_sanitize_address))
#else
#define SHIM_PLAIN
#endif

enum {
    LANES = 32,
    MAX_THREADS = 1024,
    MAX_WARPS = MAX_THREADS / LANES,
    MAX_COPIES = 128,
    MAX_ARRAYS = 16,
    GUARD = 128,
    GUARD_BYTE = 0xa5,
#if defined(SHIM_ASAN)
    STACK = 256 << 10
#else
    STACK = 64 << 10
#endif
};
enum { INVALID_CONFIGURATION = 9, OUT_OF_MEMORY = 2, LAUNCH_FAILURE = 719 }; /* cudaError_t */

struct copy {
    void *to;
    const void *from;
    int bytes, group;
};

struct fiber {
    emb_shim_thread_state state; /* first: emb_shim_self points here */
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    const void *stack;
    size_t stack_bytes;
    void *fake; /* of the address sanitizer */
    int lane, warp, finished;
    const void *parked; /* what it waits for */
    int copies, groups;
    copy pending[MAX_COPIES];
};

struct warp {
    const char *what; /* the operation that its lanes are in */
    int arrived, phase;
    unsigned char slot[2][LANES][EMB_SHIM_SLOT];
};

struct array {
    const void *key;
    unsigned char *base;
    size_t bytes;
};

/* Everything of the launch that is running. */
static struct {
    const emb_shim_job *job;
    int threads, finished, at_barrier, faulted;
    fiber *fibers, host;
    fiber *current;
    unsigned char *stacks;
    warp warps[MAX_WARPS];
    uint32_t ready[MAX_WARPS], ready_warps; /* lanes, and warps with any, that can go on */
    unsigned char order[MAX_WARPS];         /* of the warps, in blocks where some run ahead */
    array arrays[MAX_ARRAYS];               /* [0] is the dynamic one */
    int n_arrays;
} run;

static uint64_t seed_now, random_state, n_launches, n_blocks;
static char message[256];
static emb_emulation_submit redirected;
static void *redirect_user;

emb_shim_thread_state *emb_shim_self;

static uint64_t next_random(void) { /* Vigna 2015, SplitMix64 */
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ------------------------------------------------------------------------------ switching */

#if defined(__x86_64__)
extern "C" void emb_shim_switch(void **save, void *load);
/* Saves what a call preserves, changes the stack and returns to whoever was switched away there. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl emb_shim_switch\n"
        ".hidden emb_shim_switch\n"
        ".type emb_shim_switch, @function\n"
        "emb_shim_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    retq\n"
        ".size emb_shim_switch, .-emb_shim_switch\n");
#endif

SHIM_PLAIN static void switch_to(fiber *to) {
    fiber *const from = run.current;
    if (to == from)
        return;
    run.current = to;
    emb_shim_self = &to->state;
#if defined(SHIM_ASAN)
    __sanitizer_start_switch_fiber(from->finished ? NULL : &from->fake, to->stack, to->stack_bytes);
#endif
#if defined(__x86_64__)
    emb_shim_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
#if defined(SHIM_ASAN)
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
}

static void make_ready(const fiber *f) {
    run.ready[f->warp] |= (uint32_t)1 << f->lane;
    run.ready_warps |= (uint32_t)1 << f->warp;
}

/* The first bit that is set, from a random one on. */
static int some_bit(uint32_t mask) {
    const unsigned by = (unsigned)next_random() % 32;
    const uint32_t rotated = mask >> by | (by > 0 ? mask << (32 - by) : 0);
    return (int)((by + (unsigned)__builtin_ctz(rotated)) % 32);
}

/* Seed 0: the first warp that can, so that it runs as far ahead as it may; odd: any; even: the
 * first in an order that each block has of its own. */
static int choose_warp(void) {
    if (seed_now == 0)
        return __builtin_ctz(run.ready_warps);
    if (seed_now % 2 == 1)
        return some_bit(run.ready_warps);
    for (const unsigned char *w = run.order;; w++)
        if (run.ready_warps >> *w & 1)
            return *w;
}

/* Goes on with some thread that can; with the host if there is none. */
SHIM_PLAIN static void run_another(void) {
    if (seed_now != 0 && emb_shim_async_busy() && next_random() % 8 == 0)
        emb_shim_async_arrive();
    while (run.ready_warps == 0 && run.finished < run.threads && emb_shim_async_arrive())
        ;
    if (run.ready_warps == 0) {
        switch_to(&run.host);
        return;
    }
    const int w = choose_warp();
    const int lane = seed_now == 0 ? __builtin_ctz(run.ready[w]) : some_bit(run.ready[w]);
    run.ready[w] &= ~((uint32_t)1 << lane);
    if (run.ready[w] == 0)
        run.ready_warps &= ~((uint32_t)1 << w);
    switch_to(&run.fibers[w * LANES + lane]);
}

SHIM_PLAIN static void thread_main(void) {
#if defined(SHIM_ASAN)
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(NULL, &bottom, &bytes);
    if (run.host.stack == NULL) { /* the very first switch comes from the host */
        run.host.stack = bottom;
        run.host.stack_bytes = bytes;
    }
#endif
    run.job->call(run.job->kernel, run.job + 1);
    run.current->finished = 1;
    run.finished++;
    run_another();
}

static void prepare(fiber *f) {
#if defined(__x86_64__)
    /* As if it had been switched away at the entry of thread_main, where the stack is 16 k + 8. */
    uintptr_t *top = (uintptr_t *)((const unsigned char *)f->stack + f->stack_bytes - 64);
    *--top = 0;
    *--top = (uintptr_t)thread_main;
    for (int i = 0; i < 6; i++)
        *--top = 0;
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = (void *)f->stack;
    f->context.uc_stack.ss_size = f->stack_bytes;
    f->context.uc_link = NULL;
    makecontext(&f->context, thread_main, 0);
#endif
}

void emb_shim_fault(const char *what) {
    if (!run.faulted)
        snprintf(message, sizeof message, "%s, block (%u,%u,%u) thread %u: %s", run.job->name,
                 emb_shim_self->block.x, emb_shim_self->block.y, emb_shim_self->block.z,
                 emb_shim_self->thread.x, what);
    run.faulted = 1;
    switch_to(&run.host); /* never comes back */
}

/* ----------------------------------------------------------------- barriers and warps */

int emb_shim_lane(void) {
    return run.current->lane;
}

void emb_shim_barrier(void) {
    fiber *const self = run.current;
    if (++run.at_barrier < run.threads) {
        run_another();
        return;
    }
    run.at_barrier = 0;
    for (int t = 0; t < run.threads; t++)
        if (&run.fibers[t] != self)
            make_ready(&run.fibers[t]);
    if (seed_now != 0) { /* the last to arrive is not always the first to go on */
        make_ready(self);
        run_another();
    }
}

unsigned char (*emb_shim_exchange(const char *what, const void *data, size_t n,
                                  emb_shim_last last))[EMB_SHIM_SLOT] {
    fiber *const self = run.current;
    warp *const w = &run.warps[self->warp];
    unsigned char(*const slot)[EMB_SHIM_SLOT] = w->slot[w->phase];
    if (w->arrived == 0)
        w->what = what;
    else if (w->what != what && strcmp(w->what, what) != 0)
        emb_shim_fault("lanes of a warp are in different warp-wide operations");
    if (n > 0)
        memcpy(slot[self->lane], data, n);
    if (++w->arrived < LANES) {
        run_another();
        return slot;
    }
    if (last != NULL)
        last(slot);
    w->arrived = 0;
    w->phase ^= 1;
    for (int l = 0; l < LANES; l++)
        if (l != self->lane)
            make_ready(&run.fibers[self->warp * LANES + l]);
    return slot;
}

/* ------------------------------------------------------------- for cuda_shim_async.cpp */

int emb_shim_thread(void) {
    return run.current->warp * LANES + run.current->lane;
}

uint64_t emb_shim_random(void) {
    return seed_now != 0 ? next_random() : 0;
}

void emb_shim_park(const void *event) {
    run.current->parked = event;
    run_another();
}

void emb_shim_wake(const void *event) {
    for (int t = 0; t < run.threads; t++)
        if (run.fibers[t].parked == event) {
            run.fibers[t].parked = NULL;
            make_ready(&run.fibers[t]);
        }
}

unsigned char *emb_shim_dynamic_array(size_t *bytes) {
    *bytes = run.arrays[0].bytes;
    return run.arrays[0].base;
}

/* ---------------------------------------------------------------------- shared memory */

static array *new_array(const void *key, size_t bytes) {
    if (run.n_arrays == MAX_ARRAYS)
        return NULL;
    array *const a = &run.arrays[run.n_arrays];
    unsigned char *const whole =
        (unsigned char *)aligned_alloc(GUARD, (bytes + 2 * GUARD + GUARD - 1) / GUARD * GUARD);
    if (whole == NULL)
        return NULL;
    run.n_arrays++;
    memset(whole, GUARD_BYTE, GUARD);
    memset(whole + GUARD + bytes, GUARD_BYTE, GUARD);
    memset(whole + GUARD, 0xff, bytes);
#if defined(SHIM_ASAN)
    ASAN_POISON_MEMORY_REGION(whole, GUARD);
    ASAN_POISON_MEMORY_REGION(whole + GUARD + bytes, GUARD);
#endif
    *a = {key, whole + GUARD, bytes};
    return a;
}

void *emb_shim_dynamic(void) {
    return run.arrays[0].base;
}

void *emb_shim_static(const void *key, size_t bytes) {
    size_t total = bytes;
    for (int i = 1; i < run.n_arrays; i++) {
        if (run.arrays[i].key == key)
            return run.arrays[i].base;
        total += run.arrays[i].bytes;
    }
    array *const a = total <= (48u << 10) && total + run.arrays[0].bytes <= run.job->limit
                         ? new_array(key, bytes)
                         : NULL;
    if (a == NULL)
        emb_shim_fault("too much static shared memory");
    return a->base;
}

static int guards_hold(const array *a) {
#if !defined(SHIM_ASAN) /* it has seen the access itself */
    for (int i = 0; i < GUARD; i++)
        if (a->base[i - GUARD] != GUARD_BYTE || a->base[a->bytes + (size_t)i] != GUARD_BYTE)
            return 0;
#endif
    return a->base != NULL;
}

static void free_arrays(void) {
    for (int i = 0; i < run.n_arrays; i++) {
        unsigned char *const whole = run.arrays[i].base - GUARD;
#if defined(SHIM_ASAN)
        ASAN_UNPOISON_MEMORY_REGION(whole, run.arrays[i].bytes + 2 * GUARD);
#endif
        free(whole);
    }
    run.n_arrays = 0;
}

/* -------------------------------------------------------------------------- cp.async */

void emb_shim_copy_async(void *to, const void *from, int bytes) {
    fiber *const self = run.current;
    if (((uintptr_t)to | (uintptr_t)from) % 16 != 0 || bytes < 0 || bytes > 16)
        emb_shim_fault("cp.async: 16 bytes from and to multiples of 16");
    if (self->copies == MAX_COPIES)
        emb_shim_fault("cp.async: more copies under way than the emulation keeps");
    memset(to, 0xff, 16);
    self->pending[self->copies++] = {to, from, bytes, self->groups};
}

void emb_shim_copy_commit(void) {
    run.current->groups++;
}

void emb_shim_copy_wait(int newest) {
    fiber *const self = run.current;
    int kept = 0;
    for (int i = 0; i < self->copies; i++) {
        const copy c = self->pending[i];
        if (c.group >= self->groups - newest) {
            self->pending[kept++] = c;
            continue;
        }
        memset(c.to, 0, 16);
        if (c.bytes > 0)
            memcpy(c.to, c.from, (size_t)c.bytes);
        emb_shim_async_written(c.to);
    }
    self->copies = kept;
}

/* ---------------------------------------------------------------------------- launches */

static void start_block(const emb_shim_job *job, dim3 block) {
    run.finished = run.at_barrier = 0;
    run.ready_warps = 0;
    memset(run.ready, 0, sizeof run.ready);
    for (int i = 0; i < MAX_WARPS; i++) { /* a random order, grown by one at a time */
        const int at = (int)(next_random() % (uint64_t)(i + 1));
        run.order[i] = run.order[at];
        run.order[at] = (unsigned char)i;
    }
    memset(run.warps, 0, sizeof run.warps);
    emb_shim_async_start(run.threads);
    for (int i = 0; i < run.n_arrays; i++)
        memset(run.arrays[i].base, 0xff, run.arrays[i].bytes);
    for (int t = 0; t < run.threads; t++) {
        fiber *const f = &run.fibers[t];
        f->state = {dim3((unsigned)t, 0, 0), block, job->grid, job->block};
        f->stack = run.stacks + (size_t)t * STACK;
        f->stack_bytes = STACK;
        f->lane = t % LANES;
        f->warp = t / LANES;
        f->finished = f->copies = f->groups = 0;
        f->fake = NULL;
        f->parked = NULL;
        prepare(f);
        make_ready(f);
    }
}

static void finish_block(void) {
    int waiting = 0, parked = 0;
    const char *what = "";
    for (int w = 0; w < run.threads / LANES; w++) {
        waiting += run.warps[w].arrived;
        if (run.warps[w].arrived > 0)
            what = run.warps[w].what;
    }
    for (int t = 0; t < run.threads; t++)
        parked += run.fibers[t].parked != NULL;
    if (!run.faulted && run.finished < run.threads) {
        run.faulted = 1;
        snprintf(message, sizeof message,
                 "%s: no thread can go on: %d wait in __syncthreads, %d for the rest of their warp "
                 "(%s), %d at an mbarrier, %d have finished",
                 run.job->name, run.at_barrier, waiting, what, parked, run.finished);
    }
    const char *const left = run.faulted ? NULL : emb_shim_async_finish();
    if (left != NULL) {
        run.faulted = 1;
        snprintf(message, sizeof message, "%s: %s", run.job->name, left);
    }
    for (int i = 0; i < run.n_arrays && !run.faulted; i++)
        if (!guards_hold(&run.arrays[i])) {
            run.faulted = 1;
            snprintf(message, sizeof message, "%s: shared array %d of %zu bytes was overrun",
                     run.job->name, i, run.arrays[i].bytes);
        }
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    return b == 0 ? a : common_divisor(b, a % b);
}

static int allocate(void) {
    if (run.fibers == NULL)
        run.fibers = (fiber *)calloc(MAX_THREADS, sizeof *run.fibers);
    if (run.stacks == NULL) {
        void *const p = mmap(NULL, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        run.stacks = p == MAP_FAILED ? NULL : (unsigned char *)p;
    }
    if (run.fibers == NULL || run.stacks == NULL)
        return OUT_OF_MEMORY;
    return new_array(NULL, run.job->shared) != NULL ? 0 : OUT_OF_MEMORY;
}

static int run_blocks(const emb_shim_job *job) {
    const uint64_t blocks = (uint64_t)job->grid.x * job->grid.y * job->grid.z;
    uint64_t stride = 1, at = 0;
    if (seed_now != 0) {
        at = next_random() % blocks;
        do
            stride = 1 + next_random() % blocks;
        while (common_divisor(stride, blocks) != 1);
    }
    for (uint64_t i = 0; i < blocks && !run.faulted; i++, at = (at + stride) % blocks) {
        start_block(job,
                    dim3((unsigned)(at % job->grid.x), (unsigned)(at / job->grid.x % job->grid.y),
                         (unsigned)(at / job->grid.x / job->grid.y)));
        run.current = &run.host;
        run_another();
        finish_block();
    }
    n_blocks += blocks;
    return run.faulted ? LAUNCH_FAILURE : 0;
}

int emb_emulation_run(const void *data) {
    const emb_shim_job *const job = (const emb_shim_job *)data;
    run.job = job;
    run.threads = (int)job->block.x;
    run.faulted = 0;
    run.host.stack = NULL;
    int error = allocate();
#if defined(SHIM_ASAN)
    if (error == 0) /* frames of threads that were given up */
        ASAN_UNPOISON_MEMORY_REGION(run.stacks, (size_t)run.threads * STACK);
#endif
    if (error == 0)
        error = run_blocks(job);
    free_arrays();
    return error;
}

int emb_shim_launch(void *stream, const emb_shim_job *job, size_t bytes) {
    const dim3 g = job->grid, b = job->block;
    if (g.x < 1 || g.y < 1 || g.z < 1 || g.x > 2147483647u || g.y > 65535 || g.z > 65535 ||
        b.x < 1 || b.y != 1 || b.z != 1 || b.x > MAX_THREADS || b.x % LANES != 0 ||
        job->shared > job->limit) {
        snprintf(message, sizeof message,
                 "%s: grid (%u,%u,%u), blocks of (%u,%u,%u) with %zu of %zu bytes shared memory",
                 job->name, g.x, g.y, g.z, b.x, b.y, b.z, job->shared, job->limit);
        return INVALID_CONFIGURATION;
    }
    n_launches++;
    if (redirected != NULL)
        return redirected(redirect_user, stream, job, bytes);
    return emb_emulation_run(job);
}

void emb_emulation_seed(uint64_t seed) {
    seed_now = random_state = seed;
}

const char *emb_emulation_error(void) {
    return message;
}

uint64_t emb_emulation_launches(void) {
    return n_launches;
}

uint64_t emb_emulation_blocks(void) {
    return n_blocks;
}

void emb_emulation_redirect(emb_emulation_submit submit, void *user) {
    redirected = submit;
    redirect_user = user;
}

void emb_emulation_release(void) {
    free(run.fibers);
    if (run.stacks != NULL)
        munmap(run.stacks, (size_t)MAX_THREADS * STACK);
    run.fibers = NULL;
    run.stacks = NULL;
}

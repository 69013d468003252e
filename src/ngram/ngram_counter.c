#define _DEFAULT_SOURCE
#include "ngram/ngram_counter.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/durable.h"
#include "io/file.h"
#include "ngram/counter_state.h"

#define LEAST_MEMORY ((uint64_t)1 << 20)
#define LEAST_PER_THREAD ((uint64_t)128 << 10)
#define SAVE_POSITIONS ((uint64_t)1 << 26) /* tokens are made durable at least this often */

struct emb_ngram_counter {
    emb_env env;
    emb_ngram_counter_params params;
    char *output, *partial;
    emb_ngram_work work;
    emb_ngram_state state;
    emb_pool *pool;
    emb_counts_writer writer;
    /* The input. */
    char *tokens_path;
    int tokens_fd;
    uint64_t texts, tokens, positions; /* appended, durable or not */
    uint64_t run_tokens, run_bytes;    /* appended by this run */
    double started, saved;             /* seconds */
    /* The scan at work. */
    emb_counts_cursor shorter; /* over the section of the (n-1)-grams, to spell out prefixes */
    emb_counts_record prefix;
    uint64_t prefix_number; /* of `prefix`, + 1 */
    int32_t length;
    uint32_t *blocks[3]; /* streams in memory: tokens and two of numbers; or NULL */
    uint32_t *buffers;
    embed_job_report estimate;
};

uint64_t emb_ngram_counter_least_memory(int32_t threads) {
    return LEAST_MEMORY + LEAST_PER_THREAD * (uint64_t)threads;
}

static embed_status stopped_by_caller(void) {
    return emb_fail(EMBED_ERR_CANCELLED, "counting was stopped; it can be resumed");
}

static embed_status report(emb_ngram_counter *c, const char *phase, uint64_t done, uint64_t total) {
    if (c->params.report == NULL)
        return EMBED_OK;
    embed_job_report r = c->estimate;
    r.phase = phase;
    r.unit = "tokens";
    r.done = done;
    r.total = total;
    return c->params.report(c->params.user, &r) == 0 ? EMBED_OK : stopped_by_caller();
}

/* ------------------------------------------------------------------------------------- opening */

static size_t io_buffer(const emb_ngram_counter *c) {
    const uint64_t share = c->params.memory / 64;
    return share > (1u << 20) ? 1u << 20 : (size_t)share;
}

static emb_counts_header file_header(const emb_ngram_counter *c) {
    const emb_ngram_count_identity *id = &c->params.identity;
    emb_counts_header h;
    memset(&h, 0, sizeof h);
    memcpy(h.tokenizer, id->tokenizer, sizeof h.tokenizer);
    h.vocab = id->vocab;
    h.hidden = id->hidden;
    h.k = id->k;
    h.with_documents = id->with_documents;
    h.min_count = id->min_count;
    h.min_documents = id->min_documents;
    h.tokens = c->tokens;
    h.texts = c->texts;
    memcpy(h.sections, c->state.sections, sizeof h.sections);
    return h;
}

/* Before anything is written: 4 bytes a token for the tokens and twice for numbers, and some
 * n-grams. A token is some 4 bytes of text. */
static embed_status announce(emb_ngram_counter *c) {
    const uint64_t tokens = c->params.input_bytes / 4;
    c->estimate.memory_bytes = c->params.memory;
    c->estimate.disk_bytes = tokens * 12 + tokens;
    return report(c, "begin", 0, 0);
}

static embed_status open_tokens(emb_ngram_counter *c) {
    embed_status st = EMBED_OK;
    const off_t bytes = (off_t)(c->state.positions * sizeof(uint32_t));
    EMB_TRY(emb_ngram_work_path(&c->work, 0, &c->tokens_path));
    c->tokens_fd = open(c->tokens_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (c->tokens_fd < 0)
        return emb_file_fail(c->tokens_path, "cannot create");
    const off_t size = lseek(c->tokens_fd, 0, SEEK_END);
    if (size < bytes)
        return emb_fail(EMBED_ERR_TRUNCATED,
                        "%s: expected %lld bytes of the run to resume, found %lld; start afresh",
                        c->tokens_path, (long long)bytes, (long long)size);
    if (ftruncate(c->tokens_fd, bytes) != 0)
        return emb_file_fail(c->tokens_path, "cannot truncate");
fail:
    return st;
}

/* Early word of an output that could not be written, not after hours of counting. */
static embed_status try_output(const emb_ngram_counter *c) {
    const embed_status st = emb_durable_check_target(c->output);
    if (st != EMBED_OK)
        return st;
    const int fd = open(c->partial, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return emb_file_fail(c->partial, "cannot create");
    emb_file_close(fd);
    return EMBED_OK;
}

static embed_status enter_work(emb_ngram_counter *c) {
    embed_status st = EMBED_OK;
    int found = 0;
    EMB_TRY(try_output(c));
    EMB_TRY(emb_ngram_work_open(&c->work, &c->env, c->output, c->params.temp_dir));
    if (c->params.resume)
        EMB_TRY(emb_ngram_state_read(&c->work, &c->params.identity, &c->state, &found));
    if (!found) {
        memset(&c->state, 0, sizeof c->state);
        c->state.identity = c->params.identity;
        c->state.lengths = 1;
        if (unlink(c->work.state_path) == 0)
            EMB_TRY(emb_durable_sync_dir(c->work.dir));
    }
    c->texts = c->state.texts;
    c->tokens = c->state.tokens;
    c->positions = c->state.positions;
    EMB_TRY(open_tokens(c));
fail:
    return st;
}

static embed_status copy_paths(emb_ngram_counter *c) {
    const size_t n = strlen(c->params.output);
    size_t bytes;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_strdup(&c->env, c->params.output, n, &c->output));
    EMB_TRY(emb_add(n, sizeof ".partial", "path", &bytes));
    EMB_TRY(emb_alloc(&c->env, bytes, (void **)&c->partial));
    (void)snprintf(c->partial, bytes, "%s.partial", c->output);
fail:
    return st;
}

embed_status emb_ngram_counter_create(emb_ngram_counter **out, const emb_env *env,
                                      const emb_ngram_counter_params *params) {
    embed_status st = EMBED_OK;
    emb_ngram_counter *c = NULL;
    const uint64_t least = emb_ngram_counter_least_memory(params->threads);
    *out = NULL;
    if (params->memory < least)
        return emb_fail(EMBED_ERR_ARG,
                        "memory: expected at least %llu bytes for %d threads, found "
                        "%llu",
                        (unsigned long long)least, params->threads,
                        (unsigned long long)params->memory);
    EMB_TRY(emb_new(env, sizeof *c, (void **)&c));
    c->env = *env;
    c->params = *params;
    c->tokens_fd = -1;
    c->started = c->saved = emb_clock_seconds();
    EMB_TRY(emb_pool_create(&c->pool, env, params->threads));
    EMB_TRY(copy_paths(c));
    EMB_TRY(announce(c));
    EMB_TRY(enter_work(c));
    *out = c;
    return EMBED_OK;
fail:
    emb_ngram_counter_free(c);
    return st;
}

static void free_scan(emb_ngram_counter *c) {
    for (int i = 0; i < 3; i++) {
        emb_free(&c->env, c->blocks[i]);
        c->blocks[i] = NULL;
    }
    emb_free(&c->env, c->buffers);
    c->buffers = NULL;
    emb_counts_cursor_close(&c->shorter);
    emb_counts_writer_close(&c->writer);
}

void emb_ngram_counter_free(emb_ngram_counter *c) {
    if (c == NULL)
        return;
    const emb_env env = c->env;
    free_scan(c);
    emb_file_close(c->tokens_fd);
    emb_free(&env, c->tokens_path);
    emb_ngram_work_close(&c->work);
    emb_pool_free(c->pool);
    emb_free(&env, c->partial);
    emb_free(&env, c->output);
    emb_free(&env, c);
}

emb_pool *emb_ngram_counter_pool(emb_ngram_counter *c) {
    return c->pool;
}

uint64_t emb_ngram_counter_texts(const emb_ngram_counter *c, int *complete) {
    *complete = c->state.complete;
    return c->state.texts;
}

/* ----------------------------------------------------------------------------------- the input */

static embed_status save_tokens(emb_ngram_counter *c, int complete) {
    if (fsync(c->tokens_fd) != 0)
        return emb_file_fail(c->tokens_path, "cannot sync");
    c->state.texts = c->texts;
    c->state.tokens = c->tokens;
    c->state.positions = c->positions;
    c->state.complete = complete;
    const embed_status st = emb_ngram_state_write(&c->work, &c->state);
    c->saved = emb_clock_seconds();
    return st;
}

/* How many tokens the whole input has, judged by what of it there was until now; 0: not known. */
static uint64_t expected_tokens(const emb_ngram_counter *c) {
    if (c->params.input_bytes == 0 || c->run_bytes == 0)
        return 0;
    const double each = (double)c->run_tokens / (double)c->run_bytes;
    const double all = each * (double)c->params.input_bytes;
    return all > (double)c->tokens ? (uint64_t)all : c->tokens;
}

static embed_status write_positions(emb_ngram_counter *c, const uint32_t *positions, size_t n) {
    const embed_status st = emb_durable_write_at(c->tokens_fd, positions, n * sizeof *positions,
                                                 c->positions * sizeof *positions, c->tokens_path);
    if (st != EMBED_OK)
        return st;
    const uint64_t before = c->tokens;
    for (size_t i = 0; i < n; i++)
        c->tokens += positions[i] < EMB_NGRAM_BREAK;
    c->run_tokens += c->tokens - before;
    c->positions += n;
    return EMBED_OK;
}

embed_status emb_ngram_counter_append(emb_ngram_counter *c, const uint32_t *positions, size_t n,
                                      uint64_t texts, uint64_t bytes) {
    embed_status st = EMBED_OK;
    if (c->state.complete)
        return EMBED_OK;
    EMB_TRY(write_positions(c, positions, n));
    c->texts += texts;
    c->run_bytes += bytes;
    if (c->params.identity.with_documents && c->texts >= UINT32_MAX)
        return emb_fail(EMBED_ERR_UNSUPPORTED, "documents can be counted up to %u texts only",
                        UINT32_MAX - 1);
    const int stopped = report(c, "tokenise", c->tokens, expected_tokens(c)) != EMBED_OK;
    if (stopped || emb_clock_seconds() - c->saved >= c->params.save_seconds ||
        c->positions - c->state.positions >= SAVE_POSITIONS)
        EMB_TRY(save_tokens(c, 0));
    if (stopped)
        st = stopped_by_caller();
fail:
    return st;
}

/* ------------------------------------------------------------------------------------ counting */

static int32_t report_scan(void *user, int32_t length, uint32_t pass, uint64_t done,
                           uint64_t total) {
    char phase[48];
    if (pass == EMB_NGRAM_NUMBERING)
        (void)snprintf(phase, sizeof phase, "number %d-grams", length);
    else if (pass == 0)
        (void)snprintf(phase, sizeof phase, "count %d-grams", length);
    else
        (void)snprintf(phase, sizeof phase, "count %d-grams, pass %u", length, pass + 1);
    return report(user, phase, done, total) != EMBED_OK;
}

/* Spell an n-gram out and write it. Prefix numbers ascend, so the shorter ones are read once. */
static embed_status emit(void *user, uint64_t key, uint64_t count, uint32_t documents) {
    emb_ngram_counter *c = user;
    const uint32_t number = (uint32_t)(key >> 32);
    emb_counts_record r = {.count = count, .documents = documents, .length = c->length};
    embed_status st = EMBED_OK;
    if (c->length == 2) {
        r.ids[0] = number;
    } else {
        for (; c->prefix_number <= number; c->prefix_number++) {
            EMB_TRY(emb_counts_cursor_next(&c->shorter, &c->prefix));
            if (c->prefix.length == 0)
                return emb_fail(EMBED_ERR_FORMAT,
                                "%s: numbers of %d-grams go beyond the %llu that were found; start "
                                "afresh",
                                c->work.dir, c->length - 1,
                                (unsigned long long)c->shorter.section.entries);
        }
        memcpy(r.ids, c->prefix.ids, sizeof r.ids);
    }
    r.ids[c->length - 1] = (uint32_t)key;
    EMB_TRY(emb_counts_writer_put(&c->writer, &r));
fail:
    return st;
}

static embed_status load_file(const char *path, int fd, uint32_t *to, uint64_t positions) {
    return emb_file_read_at(fd, path, 0, to, (size_t)positions * sizeof *to);
}

/* Streams in memory if they leave a third of it to the tables. */
static embed_status plan_memory(emb_ngram_counter *c, emb_ngram_scan *scan) {
    const uint64_t streams = c->params.identity.k > 2 ? 3 : 1, fixed = 3 * io_buffer(c);
    const uint64_t each = c->positions * sizeof(uint32_t);
    const uint64_t room = c->params.memory - fixed;
    embed_status st = EMBED_OK;
    scan->tokens = (emb_ngram_stream){NULL, c->tokens_path, c->tokens_fd, 0};
    if (each <= room / 3 * 2 / streams) {
        for (uint64_t i = 0; i < streams; i++)
            EMB_TRY(emb_alloc(&c->env, (size_t)each, (void **)&c->blocks[i]));
        EMB_TRY(load_file(c->tokens_path, c->tokens_fd, c->blocks[0], c->positions));
        scan->tokens.data = c->blocks[0];
        scan->table_bytes = room - each * streams;
        return EMBED_OK;
    }
    const uint64_t chunk = room / 16 / (3 * sizeof(uint32_t));
    scan->chunk = chunk > (1u << 20) ? 1u << 20 : (size_t)chunk;
    EMB_TRY(emb_new_array(&c->env, 3 * scan->chunk, sizeof(uint32_t), (void **)&c->buffers));
    scan->buffers = c->buffers;
    scan->table_bytes = room - 3 * sizeof(uint32_t) * scan->chunk;
fail:
    return st;
}

typedef struct numbers { /* the stream of one length */
    char *path;
    int fd;
} numbers;

static void numbers_close(emb_ngram_counter *c, numbers *n) {
    emb_file_close(n->fd);
    emb_free(&c->env, n->path);
    *n = (numbers){NULL, -1};
}

static embed_status numbers_open(emb_ngram_counter *c, numbers *n, int32_t length, int flags) {
    *n = (numbers){NULL, -1};
    const embed_status st = emb_ngram_work_path(&c->work, length, &n->path);
    if (st != EMBED_OK)
        return st;
    n->fd = open(n->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0644);
    return n->fd < 0 ? emb_file_fail(n->path, "cannot open") : EMBED_OK;
}

/* After a length: sections and numbers durable, then the state; then older numbers can go. */
static embed_status save_length(emb_ngram_counter *c, int32_t length, numbers *n) {
    embed_status st = EMBED_OK;
    const int from_memory = c->blocks[0] != NULL && length < c->params.identity.k;
    if (from_memory) {
        EMB_TRY(numbers_open(c, n, length, O_CREAT | O_TRUNC));
        EMB_TRY(emb_durable_write_at(n->fd, c->blocks[1 + length % 2],
                                     (size_t)c->positions * sizeof(uint32_t), 0, n->path));
    }
    if (n->fd >= 0 && fsync(n->fd) != 0)
        return emb_file_fail(n->path, "cannot sync");
    if (from_memory)
        numbers_close(c, n);
    EMB_TRY(emb_counts_writer_sync(&c->writer));
    const int32_t older = c->state.lengths;
    c->state.lengths = length;
    memcpy(c->state.sections, c->writer.header.sections, sizeof c->state.sections);
    EMB_TRY(emb_ngram_state_write(&c->work, &c->state));
    c->saved = emb_clock_seconds();
    char *path;
    if (older >= 2 && emb_ngram_work_path(&c->work, older, &path) == EMBED_OK) {
        (void)unlink(path);
        emb_free(&c->env, path);
    }
fail:
    return st;
}

static embed_status count_length(emb_ngram_counter *c, emb_ngram_scan *scan, int32_t length,
                                 numbers *before, emb_ngram_counter_result *result) {
    const int32_t k = c->params.identity.k;
    const int in_memory = c->blocks[0] != NULL, last = length == k;
    const double start = emb_clock_seconds();
    embed_status st = EMBED_OK;
    numbers after = {NULL, -1};
    c->length = length;
    c->prefix_number = 0;
    if (length > 2)
        emb_counts_cursor_start(&c->shorter, &c->writer.header, length - 1);
    scan->before = length == 2 ? scan->tokens
                               : (emb_ngram_stream){c->blocks[1 + (length - 1) % 2], before->path,
                                                    before->fd, 0};
    if (!in_memory && !last)
        EMB_TRY(numbers_open(c, &after, length, O_CREAT | O_TRUNC));
    scan->now = (emb_ngram_stream){c->blocks[1 + length % 2], after.path, after.fd, 0};
    emb_counts_writer_start(&c->writer, length);
    EMB_TRY(
        emb_ngram_scan_run(scan, length, !last, &result->ngrams[length], &result->passes[length]));
    EMB_TRY(emb_counts_writer_end(&c->writer));
    result->seconds[length] = emb_clock_seconds() - start;
    if (!in_memory || (!last && emb_clock_seconds() - c->saved >= c->params.save_seconds))
        EMB_TRY(save_length(c, length, &after));
fail:
    numbers_close(c, before);
    *before = after;
    return st;
}

static embed_status count_lengths(emb_ngram_counter *c, emb_ngram_scan *scan,
                                  emb_ngram_counter_result *result) {
    const int32_t first = c->state.lengths + 1;
    embed_status st = EMBED_OK;
    numbers before = {NULL, -1};
    if (first > 2 && first <= c->params.identity.k) {
        EMB_TRY(numbers_open(c, &before, first - 1, 0));
        if (c->blocks[0] != NULL) {
            EMB_TRY(
                load_file(before.path, before.fd, c->blocks[1 + (first - 1) % 2], c->positions));
            numbers_close(c, &before);
        }
    }
    for (int32_t n = first; n <= c->params.identity.k; n++)
        EMB_TRY(count_length(c, scan, n, &before, result));
fail:
    numbers_close(c, &before);
    return st;
}

static uint64_t file_size(const char *path) { /* 0 if there is none */
    struct stat info;
    return stat(path, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
}

/* A run that was killed just after it had published: *done = 1 if `output` is what this job makes,
 * by its header. */
static embed_status find_published(emb_ngram_counter *c, int *done) {
    emb_counts_header mine = file_header(c);
    emb_counts_reader r;
    int exists;
    *done = 0;
    embed_status st = emb_file_exists(c->output, &exists);
    if (st != EMBED_OK || !exists)
        return st;
    st = emb_counts_open(&r, &c->env, c->output, 0);
    if (st != EMBED_OK) /* an older file that is none of ours: to be replaced */
        return st == EMBED_ERR_NOMEM ? st : EMBED_OK;
    memcpy(mine.sections, r.header.sections, sizeof mine.sections);
    emb_counts_header_seal(&mine);
    *done = memcmp(&mine, &r.header, sizeof mine) == 0;
    for (int32_t n = 2; n <= c->state.lengths; n++)
        *done &= r.header.sections[n].checksum == c->state.sections[n].checksum;
    if (*done)
        c->writer.header = r.header;
    emb_counts_close(&r);
    return EMBED_OK;
}

/* Finished sections that are not there any more are counted again. */
static embed_status find_sections(emb_ngram_counter *c, int *done) {
    *done = 0;
    if (c->state.lengths < 2 ||
        file_size(c->partial) >=
            emb_counts_sections_end(c->state.sections, c->params.identity.with_documents))
        return EMBED_OK;
    const embed_status st = find_published(c, done);
    c->state.lengths = 1;
    memset(c->state.sections, 0, sizeof c->state.sections);
    return st;
}

static void tell_result(const emb_ngram_counter *c, emb_ngram_counter_result *result) {
    result->texts = c->texts;
    result->tokens = c->tokens;
    result->positions = c->positions;
    result->in_memory = c->blocks[0] != NULL;
    for (int32_t n = 2; n <= c->params.identity.k; n++)
        result->ngrams[n] = c->writer.header.sections[n].entries;
}

embed_status emb_ngram_counter_finish(emb_ngram_counter *c, emb_ngram_counter_result *result) {
    const emb_ngram_count_identity *id = &c->params.identity;
    embed_status st = EMBED_OK;
    int done;
    memset(result, 0, sizeof *result);
    if (!c->state.complete)
        EMB_TRY(save_tokens(c, 1));
    result->seconds[0] = emb_clock_seconds() - c->started;
    EMB_TRY(find_sections(c, &done));
    if (done) {
        tell_result(c, result);
        (void)unlink(c->partial); /* made anew when this run began */
        emb_ngram_work_remove(&c->work);
        return EMBED_OK;
    }
    emb_ngram_scan scan = {.env = &c->env,
                           .pool = c->pool,
                           .positions = c->positions,
                           .min_count = id->min_count,
                           .min_documents = id->min_documents,
                           .with_documents = id->with_documents,
                           .report = report_scan,
                           .emit = emit,
                           .user = c};
    const emb_counts_header header = file_header(c);
    EMB_TRY(emb_counts_writer_open(&c->writer, &c->env, c->partial, &header, c->state.lengths > 1,
                                   io_buffer(c)));
    EMB_TRY(emb_counts_cursor_open(&c->shorter, &c->env, c->writer.fd, c->partial, io_buffer(c)));
    EMB_TRY(plan_memory(c, &scan));
    EMB_TRY(count_lengths(c, &scan, result));
    EMB_TRY(emb_counts_writer_publish(&c->writer, c->output));
    emb_ngram_work_remove(&c->work);
    tell_result(c, result);
fail:
    free_scan(c);
    return st;
}

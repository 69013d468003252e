/* ngram_counter: the job behind `embed ngram count`: a stream of tokens goes to a file, then one
 * scan per length (ngram_scan.h), with what has been finished kept durable in a work directory, so
 * that a killed job goes on from there and ends with the same bytes.
 *
 *   <output>.partial      the counts so far; renamed to <output> at the end
 *   <work>/state          what is finished and what the job is
 *   <work>/tokens         u32 a position: ids, EMB_NGRAM_END, EMB_NGRAM_BREAK
 *   <work>/numbers-<n>    u32 a position: number of the frequent n-gram that ends there
 *
 * <work> is <output>.work, or the same name in temp_dir. */
#ifndef EMB_NGRAM_NGRAM_COUNTER_H
#define EMB_NGRAM_NGRAM_COUNTER_H

#include "ngram/counts_file.h"
#include "ngram/ngram_scan.h"

#define EMB_NGRAM_INPUT_CHARS 256

/* What makes two runs the same job. Zeroed before it is filled: compared byte by byte. */
typedef struct emb_ngram_count_identity {
    char tokenizer[33];
    char reserved[3];
    int32_t vocab, hidden, k;
    uint64_t min_count, min_documents;
    int32_t with_documents, unused;
    uint64_t input_hash[2];            /* of the whole description of the input */
    char input[EMB_NGRAM_INPUT_CHARS]; /* its beginning, for messages */
} emb_ngram_count_identity;

typedef struct emb_ngram_counter_params {
    emb_ngram_count_identity identity;
    const char *output, *temp_dir; /* temp_dir NULL: beside the output. Copied */
    uint64_t memory;               /* for streams, tables and buffers; at least
                                      emb_ngram_counter_least_memory */
    uint64_t input_bytes;          /* hint for the estimate; 0: unknown */
    double save_seconds;           /* work that a kill may cost, apart from the scan at work */
    int32_t threads, resume;
    embed_job_fn report;
    void *user;
} emb_ngram_counter_params;

typedef struct emb_ngram_counter_result {
    uint64_t texts, tokens, positions;
    uint64_t ngrams[EMB_NGRAM_MAX_K + 1];
    uint32_t passes[EMB_NGRAM_MAX_K + 1]; /* 0: done by an earlier run */
    double seconds[EMB_NGRAM_MAX_K + 1];  /* of the scans; [0]: until the tokens were complete */
    int32_t in_memory;                    /* 1: the streams fitted */
    int32_t reserved;
} emb_ngram_counter_result;

typedef struct emb_ngram_counter emb_ngram_counter;

uint64_t emb_ngram_counter_least_memory(int32_t threads);
/* Of a description of the input: its hash and its beginning. */
void emb_ngram_count_identify(emb_ngram_count_identity *identity, const char *input, size_t len);

/* env is copied. Errors: _MISMATCH if resume = 1 finds another job's state; _ARG if another process
 * works on this output. */
embed_status emb_ngram_counter_create(emb_ngram_counter **out, const emb_env *env,
                                      const emb_ngram_counter_params *params);
/* Leaves what can be resumed; NULL is a no-op. */
void emb_ngram_counter_free(emb_ngram_counter *c);

emb_pool *emb_ngram_counter_pool(emb_ngram_counter *c);
/* Texts that are already safe, or all of them if the input was complete (*complete = 1). */
uint64_t emb_ngram_counter_texts(const emb_ngram_counter *c, int *complete);

/* Append n positions that end `texts` texts; the last of them is EMB_NGRAM_END. bytes: of the input
 * that they were, for the estimate of what is left. Ignored once the input is complete. */
embed_status emb_ngram_counter_append(emb_ngram_counter *c, const uint32_t *positions, size_t n,
                                      uint64_t texts, uint64_t bytes);
/* Count all lengths and publish the output; the work directory is removed. */
embed_status emb_ngram_counter_finish(emb_ngram_counter *c, emb_ngram_counter_result *result);

#endif

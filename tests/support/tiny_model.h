/* tiny_model: small random checkpoints of every architecture, written as real ones are, and kept in
 * memory for the reference computation. */
#ifndef EMB_TESTS_SUPPORT_TINY_MODEL_H
#define EMB_TESTS_SUPPORT_TINY_MODEL_H

#include "support/files.h"

typedef enum tiny_arch {
    TINY_NOMIC = 1,
    TINY_BERT = 2,
    TINY_XLMR = 3 /* pad id 1; positions start at 2 */
} tiny_arch;

/* The words "w0", "w1" ... of the tiny tokenizer are one token each; letters are tokens too. */
#define TINY_FIRST_WORD 57 /* id of "w0": after 5 special tokens, 26 letters, 26 continuations */
#define TINY_CLS 0
#define TINY_PAD 1
#define TINY_SEP 2
#define TINY_UNK 3

typedef struct tiny_spec {
    tiny_arch arch;
    int hidden, layers, heads, inner;
    int words;              /* vocabulary beyond the fixed part */
    int positions;          /* longest input */
    const char *activation; /* as config.json says it: "gelu", "swiglu", "silu" ... */
    int gated;
    int moe_every, experts, top_k, renormalize;
    int no_bias; /* nomic: Wqkv, out_proj, fc1, fc2 without biases */
    double rotary_fraction, rotary_base, eps;
    int dtype;            /* embed_dtype of the matrices */
    const char *pooling;  /* "mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len" */
    const char *pooling2; /* a second mode, or NULL */
    int normalize, exclude_prompt, dense; /* dense: width of a 2_Dense module (tanh), 0: none */
    const char *prompts;                  /* JSON object, or NULL */
    const char *default_prompt;
    uint64_t seed;
} tiny_spec;

tiny_spec tiny_spec_moe(void);   /* nomic_bert with experts in every second layer */
tiny_spec tiny_spec_dense(void); /* nomic_bert, GELU */
tiny_spec tiny_spec_gated(void); /* nomic_bert, SwiGLU, no biases: the v1.5 form */
tiny_spec tiny_spec_bert(void);
tiny_spec tiny_spec_xlmr(void);

typedef struct tiny_tensor {
    char name[96];
    int rows, cols; /* cols 0: a vector of `rows` */
    float *data;    /* as stored, after rounding to the dtype */
} tiny_tensor;

typedef struct tiny_model {
    tiny_spec spec;
    char dir[256];
    tiny_tensor *tensors;
    int n_tensors, vocab;
} tiny_model;

/* Writes the checkpoint into a new directory. */
void tiny_model_make(tiny_model *m, const tiny_spec *spec);
void tiny_model_remove(tiny_model *m); /* files and memory */
/* The tensor's numbers; NULL if the model has none of that name. */
const float *tiny_model_tensor(const tiny_model *m, const char *fmt, ...) EMB_PRINTF(2, 3);
/* n words that tokenise to n tokens, separated by blanks; NUL-terminated into buf. */
void tiny_words(const tiny_model *m, uint64_t *state, size_t n, char *buf, size_t cap);

#endif

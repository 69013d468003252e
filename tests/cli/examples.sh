#!/bin/sh
# usage: sh tests/cli/examples.sh BIN_DIR LIBEMBED_SO CHECKPOINTS EXAMPLES [PYTHON]
# Every example does what it says, on good input and on bad.
here=$(cd "$(dirname "$0")" && pwd)
bin=$1
library=$2
model=$3/bert
moe=$3/nomic-moe
examples=$4
python=${5-}
. "$here/check.sh"

for example in quickstart similarity_matrix long_batch late_interaction token_ids small_vectors \
    parallel_contexts expert_load encode_with_table encode_on_gpu encode_async raii; do
    run 2 "$bin/$example"
    lines out 0
    lines err 1
    said err "usage: $example MODEL_DIR"
done

run_with 0 "$examples/data/corpus.txt" "$bin/quickstart" "$model" "first question" second
said out "64 texts, "
said out "first question  ("
run 1 "$bin/quickstart" "$work/missing" question
said err "quickstart: EMBED_ERR_IO"

run 0 "$bin/similarity_matrix" "$model" a b a
lines out 3
said out "1.000"
fails "EMBED_ERR_IO" "$bin/similarity_matrix" "$work/missing" a b

run 0 "$bin/long_batch" "$model" 200
said out "200 texts, "
said err "200 of 200 texts"
run 0 "$bin/long_batch" "$model" 200 1
said out "cancelled after 1 reports"
run 2 "$bin/long_batch" "$model" many
fails "EMBED_ERR_IO" "$bin/long_batch" "$work/missing" 10

run 0 "$bin/late_interaction" "$model" "the sea" "the sea"
said out "score 1.0000"
fails "EMBED_ERR_IO" "$bin/late_interaction" "$work/missing" a b

run 0 "$bin/token_ids" "$model" "some text"
said out "the same bits"
fails "EMBED_ERR_IO" "$bin/token_ids" "$work/missing" a

run 0 "$bin/small_vectors" "$model" "the sea" "the sea" "a ship"
lines out 2
said out "f32[60] 1.0000  f32[30] 1.0000  int8[30] 1.0000  bits[30]"
fails "EMBED_ERR_IO" "$bin/small_vectors" "$work/missing" a b

run 0 "$bin/parallel_contexts" "$moe" "some text"
said out "2 contexts, 20 calls each: the same bits"
fails "EMBED_ERR_IO" "$bin/parallel_contexts" "$work/missing" a

run_with 0 "$examples/data/corpus.txt" "$bin/expert_load" "$moe"
lines out 2
said out "layer  1: busiest "
run_with 0 "$examples/data/corpus.txt" "$bin/expert_load" "$model"
said out "bert has no experts"
fails "EMBED_ERR_IO" "$bin/expert_load" "$work/missing"

printf '{"ids":[%s],"count":%d}\n' 20,21 9 21,22 8 20,21,22 7 >list.jsonl
for derive in last mean; do
    run 0 "$bin/embed" ngram rows -m "$model" --derive $derive --fgrams list.jsonl -o rows.npy
    run 0 "$bin/embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy -o $derive
    run 0 "$bin/encode_with_table" "$model" $derive "the sea" "a ship"
    lines out 3
    said out ": 3 n-grams of 2 to 3 tokens for bert"
    said out "tokens matched, 2 tokens: "
    for device in auto cpu; do
        run 0 "$bin/encode_on_gpu" "$model" $device $derive "the sea" "a ship"
        lines out 2
        said out "  a ship"
    done
done
run 0 "$bin/encode_async" --help
said out "usage: encode_async MODEL_DIR"
for device in "" "--device auto" "--device cpu"; do
    # shellcheck disable=SC2086
    run 0 "$bin/encode_async" "$model" $device "the sea" "a ship" "the sea"
    lines out 4
    said out " texts counted meanwhile"
    said out "1.000  the sea"
    said err "batch 1: EMBED_OK"
    said err "batch 2: EMBED_OK"
done
fails "EMBED_ERR_IO" "$bin/encode_async" "$work/missing" a b
run 0 "$bin/encode_on_gpu" "$model" cpu - "the sea"
"$bin/embed" devices | grep -q '^cuda:.* usable' ||
    fails "EMBED_ERR_DEVICE" "$bin/encode_on_gpu" "$model" cuda - "the sea"
fails "EMBED_ERR_IO" "$bin/encode_with_table" "$model" "$work/missing" a
fails "EMBED_ERR_MISMATCH" "$bin/encode_with_table" "$moe" last a

run 0 "$bin/raii" "$model" "the sea" "the sea"
said out "1.000000"
fails "EMBED_ERR_IO" "$bin/raii" "$work/missing" a b

if [ -n "$python" ] && "$python" -c 'import numpy' 2>/dev/null; then
    run 2 "$python" "$examples/numpy_embed.py"
    run 0 "$python" "$examples/numpy_embed.py" "$library" "$model" "the sea" "a ship"
    said out "(2, 60) float32"
    fails "EMBED_ERR_IO" "$python" "$examples/numpy_embed.py" "$library" "$work/missing" a
    fails "numpy_embed.py: " "$python" "$examples/numpy_embed.py" "$work/no.so" "$model" a
else
    echo "numpy_embed.py: skipped, no Python with numpy"
fi
passed

#!/bin/sh
# usage: sh tests/cli/ngram_rows.sh EMBED CHECKPOINTS
# embed ngram rows: sources of rows, options, resuming, failures.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
moe=$2/nomic-moe
. "$here/check.sh"

npy_shape() { # npy_shape FILE SHAPE
    head -c 128 "$1" | grep -aqF "'shape': $2" || failed "$1: expected shape $2"
}

awk 'BEGIN {
    for (i = 0; i < 500; i++)
        printf "{\"ids\":[%d,%d%s],\"count\":%d}\n", 10 + i % 200, 11 + i % 97,
               i % 2 ? "," 20 + i % 50 : "", 500 - i
}' >list.jsonl

# A model as its own f-gram model; threads, batches and memory change nothing.
run 0 "$embed" ngram rows -m "$model" --fgram-model "$model" --fgrams list.jsonl -o a.npy
lines out 0
said err "embed ngram rows: needs about "
said err "a.npy: 500 f-grams in "
npy_shape a.npy "(500, 60)"
[ "$(wc -c <a.npy)" -eq $((128 + 500 * 60 * 4)) ] || failed "a.npy has the wrong size"
run 0 "$embed" ngram rows -m "$model" --fgram-model "$model" --fgrams list.jsonl -o b.npy -j 3 \
    --batch-tokens 50 -S 64M --progress
same a.npy b.npy
[ ! -e b.npy.partial ] || failed "b.npy.partial is left"
run 0 "$embed" ngram rows -m "$model" --fgram-model "$model" --fgrams list.jsonl -o b.npy --resume
same a.npy b.npy

# Derived rows, and rows computed elsewhere.
run 0 "$embed" ngram rows -m "$moe" --derive last --fgrams list.jsonl -o last.npy
npy_shape last.npy "(500, 36)"
run 0 "$embed" ngram rows -m "$moe" --derive mean --fgrams list.jsonl -o mean.npy
cmp -s last.npy mean.npy && failed "last and mean are the same rows"
run 0 "$embed" ngram rows -m "$model" --from a.npy --fgrams list.jsonl -o b.npy
same a.npy b.npy
tail -c +129 a.npy >a.bin
run 0 "$embed" ngram rows -m "$model" --from a.bin --raw-dtype f32 --fgrams list.jsonl -o b.npy
same a.npy b.npy

# What it is not: a gain in quality. The help says so.
run 0 "$embed" ngram rows --help
said out "no gain in quality"
run 0 "$embed" ngram --help
said out "vectors for the n-grams of a list"

wrong "--fgrams LIST is missing" "$embed" ngram rows -m "$model" --derive last -o c.npy
wrong "-o FILE is missing" "$embed" ngram rows -m "$model" --derive last --fgrams list.jsonl
wrong "no source of rows" "$embed" ngram rows -m "$model" --fgrams list.jsonl -o c.npy
wrong "too many sources of rows" "$embed" ngram rows -m "$model" --derive last --from a.npy \
    --fgrams list.jsonl -o c.npy
wrong "go with --from" "$embed" ngram rows -m "$model" --derive last --tensor t \
    --fgrams list.jsonl -o c.npy
wrong "-m DIR is missing" "$embed" ngram rows --derive last --fgrams list.jsonl -o c.npy
wrong "--derive: expected last or mean, found 'first'" "$embed" ngram rows -m "$model" \
    --derive first --fgrams list.jsonl -o c.npy

fails "f-gram model bert: hidden width 60, but nomic-moe has 36" "$embed" ngram rows -m "$moe" \
    --fgram-model "$model" --fgrams list.jsonl -o c.npy
fails "none.jsonl" "$embed" ngram rows -m "$model" --derive last --fgrams none.jsonl -o c.npy
printf '{"ids":[1,2]}\n{"ids":[1]}\n' >short.jsonl
fails "short.jsonl: line 2" "$embed" ngram rows -m "$model" --derive last --fgrams short.jsonl \
    -o c.npy
fails "a.npy: rows of 60 numbers" "$embed" ngram rows -m "$moe" --from a.npy \
    --fgrams list.jsonl -o c.npy
echo half >c.npy.partial
run 1 "$embed" ngram rows -m "$model" --derive last --fgrams list.jsonl -o c.npy
said err "c.npy.partial: left by an earlier run; resume it, or remove it"
run 0 "$embed" ngram rows -m "$model" --derive last --fgrams list.jsonl -o c.npy --resume
[ ! -e c.npy.partial ] || failed "c.npy.partial is left"
passed

#!/bin/sh
# usage: sh tests/cli/ngram_bench.sh EMBED CHECKPOINTS
# embed ngram bench: all ways bring equal bytes, text and JSON, wrong usage.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
. "$here/check.sh"

awk 'BEGIN {
    for (i = 0; i < 400; i++)
        printf "{\"ids\":[%d,%d],\"count\":%d}\n", 10 + i % 200, 11 + i / 2, 400 - i
}' >list.jsonl
run 0 "$embed" ngram rows -m "$model" --derive mean --fgrams list.jsonl -o rows.npy
run 0 "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy -o table

run 0 "$embed" ngram bench --method all --rows 300 --batch 70 --rounds 2 table
said out "300 at random in batches of 70"
lines err 0
for method in readahead faults raw-pread raw-pool raw-uring willneed uring pread read-uring \
    read-pread gather lazy populate huge read; do
    [ "$(grep -c "^$method  *\(cold\|warm\) " out)" -eq 1 ] || failed "no line for $method"
done
for method in faults raw-pool willneed gather lazy huge; do # these need nothing special
    grep "^$method " out | grep -q "not run" && failed "$method was not run"
done

run 0 "$embed" ngram bench --method warm,faults --rows 1k --rounds 1 --json table
lines err 0
for text in '"rows":400' '"method":"gather"' '"state":"warm"' '"method":"faults"' '"of_raw"' \
    '"resident_before"'; do
    tr -d ' \n' <out | grep -qF "$text" || failed "expected $text"
done
grep -q willneed out && failed "willneed was not asked for"

wrong "--method: no method 'fast'" "$embed" ngram bench --method faults,fast table
wrong "too few arguments" "$embed" ngram bench
fails "none" "$embed" ngram bench none
passed

#!/bin/sh
# usage: sh tests/cli/encode_table.sh EMBED CHECKPOINTS CORPUS
# embed encode, search and bench with an n-gram table.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
moe=$2/nomic-moe
corpus=$3
. "$here/check.sh"

# make_table NAME OPTION...: every second pair and every third triple of the texts
make_table() {
    name=$1
    how=$2
    shift 2
    run 0 "$embed" ngram rows -m "$model" --derive "$how" --fgrams list.jsonl -o rows.npy
    run 0 "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy "$@" -o "$name"
}

head -20 "$corpus" >texts.txt
"$embed" tokenize -m "$model" -i texts.txt --no-special | tr -d '[]' | awk -F, '
    function add(gram) {
        if (gram in seen || ("," gram) ~ /,[0-4](,|$)/) return # those are special
        seen[gram] = 1
        printf "{\"ids\":[%s],\"count\":%d}\n", gram, 1000 - ++n }
    { for (i = 2; i <= NF; i++) { if (i % 2) add($(i-1) "," $i)
                                  if (i > 2 && i % 3 == 0) add($(i-2) "," $(i-1) "," $i) } }
' >list.jsonl

make_table same last --dtype f32
make_table mean mean --dtype int8
head -c 32 "$corpus" >key
head -c 31 "$corpus" >short
make_table secret mean --dtype int8 --encrypt key

# Rows that say nothing new change no byte; others do, and encryption, mode and cache do not.
run 0 "$embed" encode -m "$model" -i texts.txt -o plain.npy
run 0 "$embed" encode -m "$model" -i texts.txt -o with.npy --table same
lines out 0
lines err 0
same plain.npy with.npy
run 0 "$embed" encode -m "$model" -i texts.txt -o mean.npy --table mean --threads 2
cmp -s plain.npy mean.npy && failed "a table of other rows changes nothing"
for mode in lazy populate huge read; do
    run 0 "$embed" encode -m "$model" -i texts.txt -o with.npy --table mean --table-mode $mode \
        --cache 0 --batch-tokens 64
    same mean.npy with.npy
done
run 0 "$embed" encode -m "$model" -i texts.txt -o with.npy --table secret --key key --cache 1MiB
same mean.npy with.npy
"$embed" tokenize -m "$model" -i texts.txt >ids.jsonl
run 0 "$embed" encode -m "$model" --ids -i ids.jsonl -o with.npy --table mean
same mean.npy with.npy

# --stats is one JSON object, on standard output, or on standard error where the vectors are.
run 0 "$embed" encode -m "$model" -i texts.txt -o with.npy --table mean --stats
lines err 0
tr -d ' \n' <out >stats
for key in positions matched hits distinct_rows cache_hits bytes_read wait_seconds; do
    said stats "\"$key\":"
done
tokens=$(tr -cd ',\n' <ids.jsonl | awk '{n += length($0) + 1} END {print n}')
said stats "\"positions\":$tokens,"
grep -q '"matched":0,' stats && failed "nothing matched"
grep -q '"hits":\[[1-9][0-9]*,0,[1-9][0-9]*,[1-9][0-9]*\]' stats || failed "expected hits by length"
run 0 "$embed" encode -m "$model" -i texts.txt --table mean --stats
same mean.npy out
said err "\"positions\": $tokens,"

run 0 "$embed" search -m "$model" --corpus texts.txt --json -k 3 "the sea"
cp out plain.jsonl
run 0 "$embed" search -m "$model" --corpus texts.txt --json -k 3 --table same "the sea"
same plain.jsonl out
run 0 "$embed" search -m "$model" --corpus texts.txt --json -k 3 --table mean "the sea"
cmp -s plain.jsonl out && failed "a table of other rows changes nothing"

run 0 "$embed" bench -m "$model" --table mean --texts 4 --tokens 16 --reps 3 --threads 1 --csv
lines out 4
said out "table_over_none,"

# What is wrong is told.
wrong "--stats needs --table" "$embed" encode -m "$model" -i texts.txt --stats
wrong "need --table" "$embed" encode -m "$model" -i texts.txt --key key
wrong "need --table" "$embed" search -m "$model" --corpus texts.txt --table-mode read "the sea"
wrong "need --table" "$embed" bench -m "$model" --allow-mismatch
wrong "--table-mode" "$embed" encode -m "$model" -i texts.txt --table mean --table-mode eager
fails "EMBED_ERR_IO" "$embed" encode -m "$model" -i texts.txt -o x.npy --table missing
fails "key" "$embed" encode -m "$model" -i texts.txt -o x.npy --table secret
fails "wrong key" "$embed" encode -m "$model" -i texts.txt -o x.npy --table secret \
    --key "$(head -c 32 /dev/zero | tr '\0' x >other; echo other)"
fails "32 bytes" "$embed" encode -m "$model" -i texts.txt -o x.npy --table secret --key short
fails "EMBED_ERR_MISMATCH" "$embed" encode -m "$moe" -i texts.txt -o x.npy --table mean
fails "wide" "$embed" encode -m "$moe" -i texts.txt -o x.npy --table mean --allow-mismatch
[ ! -e x.npy ] || failed "a failed run leaves x.npy"

# A flipped bit in a row is found when the row is first needed.
cp -r mean broken
size=$(wc -c <broken/rows-000.bin)
head -c $((size / 2)) mean/rows-000.bin >broken/rows-000.bin
head -c $((size - size / 2)) /dev/zero | tr '\0' '\252' >>broken/rows-000.bin
fails "rows-000.bin" "$embed" encode -m "$model" -i texts.txt -o x.npy --table broken
[ ! -e x.npy ] || failed "a failed run leaves x.npy"
passed

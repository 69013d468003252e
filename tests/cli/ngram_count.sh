#!/bin/sh
# usage: sh tests/cli/ngram_count.sh EMBED CHECKPOINTS
# From text to an f-gram list: embed ngram count, merge and select.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
other=$2/xlm-roberta
. "$here/check.sh"

# 60 texts: "the sea is big" is in all of them, "one" and "two" in half each.
i=0
while [ $i -lt 30 ]; do
    echo "one the sea is big"
    echo "two the sea is big"
    i=$((i + 1))
done >corpus.txt
sed 's/.*/{"text": "&"}/' corpus.txt >corpus.jsonl
"$embed" tokenize -m "$model" -i corpus.txt >ids.jsonl
head -20 corpus.txt >part1.txt
tail -n +21 corpus.txt >part2.txt

run 0 "$embed" ngram count -m "$model" -i corpus.txt -o counts
said out "60 texts"
said out "tokens/s"
said err "needs about"
[ ! -e counts.work ] && [ ! -e counts.partial ] || failed "expected no temporary files"
for threads in 1 2 3; do
    run 0 "$embed" ngram count -m "$model" -j $threads -S 2MiB -i corpus.jsonl -o counts.b
    same counts counts.b
done
run 0 "$embed" ngram count -m "$model" --ids -i ids.jsonl -o counts.b
same counts counts.b
run 0 "$embed" ngram count -m "$model" -i part1.txt -i part2.txt -o counts.b
same counts counts.b
run 0 "$embed" ngram count -m "$model" -i part1.txt part2.txt -o counts.b
same counts counts.b
mkdir temp
run 0 "$embed" ngram count -m "$model" -T temp -i corpus.txt -o counts.b
same counts counts.b
[ -z "$(ls temp)" ] || failed "expected an empty temp"
run 0 "$embed" ngram count -m "$model" -K 2 --min-docs 60 --json -i corpus.txt -o pairs
said out '"texts": 60,'
said out '"in_memory": true,'
run 0 "$embed" ngram count -m "$model" --progress -i corpus.txt -o counts.b
said err "count 5-grams"

# Select: order, limits, closure.
run 0 "$embed" ngram select counts --min-count 60 -o list.jsonl
said out "positions that match"
said out "coverage"
said out "a table of it takes"
[ "$(head -c 8 list.jsonl)" = '{"ids":[' ] || failed "expected JSON lines"
[ "$(grep -c '"count":60}' list.jsonl)" -eq "$(wc -l <list.jsonl)" ] || failed "expected counts of 60"
sed 's/.*\[\(.*\)\].*/\1/' list.jsonl | awk -F, '{ if (NF < n) exit 1; n = NF }' ||
    failed "expected shorter n-grams first"
lines=$(wc -l <list.jsonl)
run 0 "$embed" ngram select counts --top 5 -o top.jsonl --json
said out '"rows": 5,'
lines top.jsonl 5
head -5 list.jsonl >first
same first top.jsonl
run 0 "$embed" ngram select counts --bytes 40K --dtype f32 -o some.jsonl --stats
said out "passes over the counts"
run 0 "$embed" ngram select counts --min-count 60 --max-per-length 2=1 -o few.jsonl
said out "closed under suffixes"
run 0 "$embed" ngram select counts --min-count 60 --max-per-length 3=0 -o pairs.jsonl
grep -q '\[[0-9]*,[0-9]*\]' pairs.jsonl || failed "expected pairs"
grep -q '\[[0-9]*,[0-9]*,' pairs.jsonl && failed "expected pairs only"
sed 's/.*\(\[.*\]\).*/\1/' first | head -1 >excluded
run 0 "$embed" ngram select counts --min-count 60 --exclude-ids excluded -o without.jsonl
[ "$(wc -l <without.jsonl)" -lt "$lines" ] || failed "expected fewer n-grams"
run 0 "$embed" ngram select pairs --min-count 1 --min-docs 60 -o in_all.jsonl
fails "count with min_documents" "$embed" ngram select counts --top 5 --min-docs 2 -o x

run 0 "$embed" ngram count -m "$model" -i /dev/null -o none
run 0 "$embed" ngram select none --top 5 -o none.jsonl
said out "0 n-grams"
lines none.jsonl 0

# A table of the list finds what was promised.
run 0 "$embed" ngram rows -m "$model" --derive mean --fgrams list.jsonl -o rows.npy
run 0 "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy -o table

# Merged parts are the whole; another tokenizer is refused.
for part in 1 2; do
    run 0 "$embed" ngram count -m "$model" --min-count 1 -i part$part.txt -o counts.$part
done
run 0 "$embed" ngram count -m "$model" --min-count 1 -i corpus.txt -o whole
run 0 "$embed" ngram merge -o merged counts.1 counts.2
same merged whole
said out "2 files"
run 0 "$embed" ngram merge -o merged counts counts
said out "counted with --min-count 5"
run 0 "$embed" ngram count -m "$other" -i corpus.txt -o counts.other
run 1 "$embed" ngram merge -o other counts counts.other
said err "tokenizer"
said err "counts.other"

# A run that failed leaves no output, and can be asked to go on.
printf '{"text": "one the sea"}\n{"text": 7}\n' >bad.jsonl
run 1 "$embed" ngram count -m "$model" -i corpus.jsonl bad.jsonl -o resumed
said err "bad.jsonl: line 2"
[ ! -e resumed ] && [ -d resumed.work ] || failed "expected resumed.work and no output"
run 0 "$embed" ngram count -m "$model" --resume -i corpus.jsonl -o resumed
same resumed counts
[ ! -e resumed.work ] || failed "expected no resumed.work"
fails "missing.jsonl: No such file" "$embed" ngram count -m "$model" -i missing.jsonl -o x

wrong "-o COUNTS is missing" "$embed" ngram count -m "$model" -i corpus.txt
wrong "-i FILE is missing" "$embed" ngram count -m "$model" -o x
wrong "-m DIR is missing" "$embed" ngram count -i corpus.txt -o x
wrong "--longest: expected a whole number from 2 to 8" "$embed" ngram count -m "$model" -K 9 -o x
wrong "--ids takes no" "$embed" ngram count -m "$model" --ids -r query -i ids.jsonl -o x
wrong "-o LIST is missing" "$embed" ngram select counts --top 1
wrong "--top, --min-count or --bytes is missing" "$embed" ngram select counts -o x
wrong "too few arguments" "$embed" ngram select --top 1 -o x
wrong "--max-per-length: expected" "$embed" ngram select counts --top 1 --max-per-length 9=1 -o x
wrong "-o COUNTS is missing" "$embed" ngram merge counts
fails "memory: expected at least" "$embed" ngram count -m "$model" -S 10K -i corpus.txt -o x
fails "list.jsonl: expected a file of" "$embed" ngram select list.jsonl --top 1 -o x
head -c 400 counts >cut
fails "EMBED_ERR_TRUNCATED" "$embed" ngram select cut --top 1 -o x
[ ! -e x ] && [ ! -e x.work ] || failed "expected no x"

# Nothing but a file gives way to the output: a device or a link would be lost.
mkfifo pipe
ln -s counts link
for output in pipe link temp; do
    run 1 "$embed" ngram count -m "$model" -i corpus.txt -o $output
    said err "expected a file or nothing, found"
    run 1 "$embed" ngram merge -o $output counts
    said err "expected a file or nothing, found"
    run 1 "$embed" ngram select counts --top 5 -o $output
    said err "expected a file or nothing, found"
done
[ -p pipe ] && [ -L link ] && [ -d temp ] || failed "expected that all are still there"

# Empty rows of ids are texts.
{ echo "[]" && cat ids.jsonl && echo "[]"; } >gaps.jsonl
run 0 "$embed" ngram count -m "$model" --ids --json -i gaps.jsonl -o counts.b
said out '"texts": 62,'
passed

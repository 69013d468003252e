#!/bin/sh
# usage: sh tests/cli/query.sh EMBED CHECKPOINTS
# embed info, similarity, search and bench.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
moe=$2/nomic-moe
. "$here/check.sh"

run 0 "$embed" info -m "$model"
lines err 0
said out "architecture      bert, 3 layers of 6 heads x 10, hidden 60, inner 52"
said out "fingerprint       "
run 0 "$embed" info -m "$moe" --json
said out '"architecture": "nomic_bert"'
said out '"experts": 8'
said out '"experts_per_token": 2'
said out '"query": "search_query: "'

run 0 "$embed" similarity -m "$model" "the same" "the same"
lines out 1
said out "1.000000"
run 0 "$embed" similarity -m "$model" "" "not empty"
lines out 1
run 0 "$embed" similarity -m "$moe" -r query a b
cp out as_query
run 0 "$embed" similarity -m "$moe" "search_query: a" "search_query: b"
same out as_query
run 0 "$embed" similarity -m "$model" -- -a --b
lines out 1
if [ -e /dev/full ]; then
    last="similarity > /dev/full"
    status=0
    "$embed" similarity -m "$model" a b >/dev/full 2>err || status=$?
    [ $status -eq 1 ] || failed "expected exit status 1, found $status"
    said err "No space left"
fi

# A corpus holds the query itself: it is found first.
printf 'one text about trees\nanother about the sea\nand one about ships\n' >corpus.txt
cat >corpus.jsonl <<'END'
{"_id": "t", "text": "one text about trees"}
{"id": 12, "title": "another", "text": "about the sea"}
{"text": "and one about ships\twith a tab"}
END
run 0 "$embed" search -m "$model" --corpus corpus.txt "another about the sea"
lines out 4
sed -n 2p out >first
said first "1.0000  2        another about the sea"
run 0 "$embed" search -m "$model" --corpus corpus.jsonl -k 1 "another about the sea" "one text about trees"
lines out 5
said out "1.0000  12       another about the sea"
said out "1.0000  t        one text about trees"
run 0 "$embed" search -m "$model" --corpus corpus.jsonl -k 2 --json "one text about trees"
lines out 2
sed -n 1p out >first
said first '{"query":"1","rank":1,"score":'
said first '"id":"t","text":"one text about trees"}'
cp corpus.txt queries.txt
run 0 "$embed" search -m "$model" --corpus corpus.txt --queries queries.txt -k 1 --json
lines out 3
run 0 "$embed" search -m "$model" --corpus /dev/null anything
lines out 1
fails "no-such: No such file" "$embed" search -m "$model" --corpus no-such anything
printf '{"text": 1}\n' >bad.jsonl
fails "bad.jsonl: line 1" "$embed" search -m "$model" --corpus bad.jsonl anything

# Prompts: what the corpus and the queries get by default can be left out.
run 0 "$embed" search -m "$moe" --corpus corpus.txt -k 1 --corpus-role query "another about the sea"
sed -n 2p out >first
said first "1.0000  2        another about the sea"

run 0 "$embed" bench -m "$model" --tokens 8 --texts 4 --reps 3 --csv --threads 1
lines out 2
said out "impl,texts,tokens,median_us,p90_us,tok_s,gflop_s,pct_peak,max_err"
sed -n 2p out >row
said row "embed-"
[ "$(cut -d, -f 2,3,9 row)" = "4,8,0" ] || failed "expected texts, tokens, max_err of 4,8,0"
[ "$(sed -n 1p out | tr -cd , | wc -c)" -eq "$(tr -cd , <row | wc -c)" ] || failed "ragged CSV"
run 0 "$embed" bench -m "$moe" --tokens 8 --texts 4 --reps 3 --threads 2
said out "tokens/s"
said out "max error      0"
wrong "the model takes at most" "$embed" bench -m "$model" --tokens 100000
passed

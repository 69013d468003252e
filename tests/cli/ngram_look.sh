#!/bin/sh
# usage: sh tests/cli/ngram_look.sh EMBED CHECKPOINTS
# What one sees of n-gram tables: embed ngram info, dump, query, warm and advise.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
other=$2/nomic-moe
. "$here/check.sh"

run 0 "$embed" ngram --help
said out "usage: embed ngram COMMAND"
lines err 0
wrong "no command" "$embed" ngram
wrong "unknown command 'counts'" "$embed" ngram counts

# Every command that the help names explains itself.
commands=$("$embed" ngram --help | sed -n '/^commands$/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(echo "$commands" | wc -l)" -ge 5 ] || failed "expected commands in the help"
[ -z "$(echo "$commands" | sort | uniq -d)" ] || failed "a command is listed twice"
for command in $commands; do
    run 0 "$embed" ngram "$command" --help
    lines err 0
    said out "usage: embed ngram $command"
    [ "$(sed '1,/^examples$/d' out | wc -l)" -ge 2 ] || failed "expected two examples"
    run 0 "$embed" ngram "$command" -h
    wrong "embed ngram $command: unrecognized option '--colour'" "$embed" ngram "$command" --colour
done

# Tables of n-grams that stand in a text: "ab" (row 0), "bc" (1) and "abc" (2).
echo "the sea is big" >text.txt
"$embed" tokenize -m "$model" -i text.txt | tr -d '[]' >ids
a=$(cut -d, -f2 ids) b=$(cut -d, -f3 ids) c=$(cut -d, -f4 ids)
{
    printf '{"ids":[%s,%s],"count":9}\n' "$a" "$b"
    printf '{"ids":[%s,%s],"count":5}\n' "$b" "$c"
    printf '{"ids":[%s,%s,%s],"count":4}\n' "$a" "$b" "$c"
} >list.jsonl
run 0 "$embed" ngram rows -m "$model" --derive mean --fgrams list.jsonl -o rows.npy
run 0 "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy --dtype f32 \
    --corpus "one text" --licence CC0 --min-count 4 -o table
head -c 32 /dev/zero >key
head -c 32 /dev/zero | tr '\0' x >other.key
head -c 31 key >short.key
run 0 "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy --encrypt key -o sealed

run 0 "$embed" ngram info table
said out "n-grams           3 of 2 to 3 tokens"
said out "  of 2 tokens     2"
said out "  of 3 tokens     1"
said out "rows              60 x f32, 288 bytes each"
said out "licence           CC0"
said out "least count       4"
lines err 0
run 0 "$embed" ngram info --json table
said out '"rows": 3,'
said out '"dtype": "f32",'
said out '"corpus": "one text",'
said out '"encrypted": false,'
fingerprint=$("$embed" info -m "$model" --json | sed -n 's/.*"fingerprint": "\([0-9a-f]*\)".*/\1/p')
said out "\"model\": \"$fingerprint\""
run 0 "$embed" ngram info --key key sealed
said out "encrypted         AES-256-GCM"
fails "EMBED_ERR_ARG" "$embed" ngram info sealed
fails "wrong key" "$embed" ngram info --key other.key sealed
fails "short.key" "$embed" ngram info --key short.key sealed
fails "EMBED_ERR_IO" "$embed" ngram info missing
wrong "too few arguments" "$embed" ngram info
wrong "unexpected argument 'b'" "$embed" ngram info a b

# Names of lengths in the JSON of the tools that make tables.
run 0 "$embed" ngram count -m "$model" --min-count 1 -K 3 --json -i text.txt -o counts
said out '"2": {'
said out '"3": {'

# A store: what `current` names.
mkdir store
cp -r table store/v000001
cp -r sealed store/v000002
ln -s v000001 store/current
run 0 "$embed" ngram info store
said out "version           v000001 (current)"
said out "version           v000002"
run 0 "$embed" ngram info --json store
said out '"current": "v000001"'

run 0 "$embed" ngram dump --no-vectors table
lines out 3
sed -n 3p out >third
said third "{\"ids\":[$a,$b,$c],\"count\":4,\"row\":2}"
cp out dumped.jsonl
run 0 "$embed" ngram build -m "$model" --fgrams dumped.jsonl --rows rows.npy --dtype f32 \
    --corpus "one text" --licence CC0 --min-count 4 -o again
same table/index.bin again/index.bin
same table/rows-000.bin again/rows-000.bin
run 0 "$embed" ngram dump --top 1 --format tsv table
lines out 2
[ "$(sed -n 2p out | cut -f1-3)" = "$(printf '0\t9\t%s %s' "$a" "$b")" ] || failed "wrong first row"
[ "$(sed -n 2p out | cut -f4 | wc -w)" -eq 60 ] || failed "expected 60 numbers"
run 0 "$embed" ngram dump --key key sealed
lines out 3
wrong "--top: expected an amount" "$embed" ngram dump --top many table
wrong "--top: expected at least 1" "$embed" ngram dump --top 0 table
wrong "--format: expected tsv or jsonl" "$embed" ngram dump --format csv table

# The contract of query -v jsonl: exactly these keys, one line a text, ids as the encoder sees them.
tail=$(cut -d, -f5- ids | tr ',' '\n' | wc -l)
zeros=$(head -c "$tail" /dev/zero | tr '\0' x | sed 's/x/,0/g')
nones=$(head -c "$tail" /dev/zero | tr '\0' x | sed 's/x/,-1/g')
printf '{"ids":[%s],"len":[0,0,2,3%s],"row":[-1,-1,0,2%s]}\n' "$(cat ids)" "$zeros" "$nones" >expected
run 0 "$embed" ngram query -m "$model" --table table -v jsonl -i text.txt
same out expected
run_with 0 text.txt "$embed" ngram query -m "$model" --table store -v jsonl
same out expected
run 0 "$embed" ngram query -m "$model" --table sealed --key key -v jsonl -i text.txt
same out expected
for mode in lazy populate huge read; do
    run 0 "$embed" ngram query -m "$model" --table table -l $mode --fetch -v jsonl -i text.txt
    same out expected
done
{
    printf '[%s,%s,%s,%s,%s]\n' "$b" "$c" "$a" "$b" "$c"
    printf '\n[%s]\n' "$a"
    printf '[%s,2,%s]\n[]\n' "$a" "$b"
} >ids.jsonl
{
    printf '{"ids":[%s,%s,%s,%s,%s],"len":[0,2,0,2,3],"row":[-1,1,-1,0,2]}\n' "$b" "$c" "$a" "$b" "$c"
    printf '{"ids":[%s],"len":[0],"row":[-1]}\n' "$a"
    printf '{"ids":[%s,2,%s],"len":[0,0,0],"row":[-1,-1,-1]}\n' "$a" "$b"
    printf '{"ids":[],"len":[],"row":[]}\n'
} >expected
run 0 "$embed" ngram query -m "$model" --table table --ids -v jsonl -i ids.jsonl
same out expected
run 0 "$embed" ngram query -m "$model" --table table --ids -v word -i ids.jsonl
lines out 14
said out "$(printf '%s\t2\t1' "$c")"
run 0 "$embed" ngram query -m "$model" --table table --ids -v sentence -i ids.jsonl
lines out 5
said out "$(printf '5\t3\t0.6000\t2.333')"
run 0 "$embed" ngram query -m "$model" --table table --access-log log --ids -i ids.jsonl ids.jsonl
said out "texts                 8"
said out "tokens                18"
said out "matched               6, 33.3 % of the tokens"
said out "distinct rows         3 of 3"
printf '{"row":0,"hits":2}\n{"row":1,"hits":2}\n{"row":2,"hits":2}\n' >expected
same log expected
# What the log is for: "bc" is asked for most, then "ab", so they come first.
printf '[%s,%s,2,%s,%s,2,%s,%s]\n' "$b" "$c" "$b" "$c" "$a" "$b" >uses.jsonl
run 0 "$embed" ngram query -m "$model" --table table --ids -i uses.jsonl --access-log log
printf '{"row":1,"hits":2}\n{"row":0,"hits":1}\n' >expected
same log expected
run 0 "$embed" ngram compact table --by-access log -o ordered
run 0 "$embed" ngram dump --no-vectors --format tsv ordered
[ "$(cut -f3 out | sed -n 2,3p | tr '\n' ,)" = "$b $c,$a $b," ] || failed "expected bc, ab first"
run 0 "$embed" ngram query -m "$model" --table table --ids -i ids.jsonl --json
said out '"matched": 3,'
said out '"distinct_rows": 3,'
run_with 0 /dev/null "$embed" ngram query -m "$model" --table table
said out "matched               0, 0.0 % of the tokens"
printf '\n' >empty.txt
run 0 "$embed" ngram query -m "$model" --table table -v jsonl -i empty.txt
lines out 1
said out '"len":[0,0],"row":[-1,-1]'
run 0 "$embed" ngram query -m "$model" --table table --progress -i text.txt
said err "1 texts, "
for size in 0 1 4096B 1k 2M 1.5GiB 0.25tib; do
    run 0 "$embed" ngram query -m "$model" --table table --cache $size -i text.txt
done
for size in "" x -1 1.5 .5M 1.2.3M 5MB 1e3 99999999999999999999 99999999T; do
    wrong "--cache: expected a size such as 800M, 1.5GiB or 4096 (bytes), found '$size'" \
        "$embed" ngram query -m "$model" --table table --cache "$size"
done
wrong "-m DIR is missing" "$embed" ngram query --table table
fails "extra: No such file" "$embed" ngram query -m "$model" --table table extra
wrong "--table DIR is missing" "$embed" ngram query -m "$model"
wrong "--verbosity: expected word, sentence, summary or jsonl" \
    "$embed" ngram query -m "$model" --table table -v words
wrong "--table-mode: expected lazy, populate, huge or read" \
    "$embed" ngram query -m "$model" --table table -l mmap
wrong "--json is only for -v summary" "$embed" ngram query -m "$model" --table table -v word --json
wrong "--ids takes no" "$embed" ngram query -m "$model" --table table --ids -r query
fails "EMBED_ERR_MISMATCH" "$embed" ngram query -m "$other" --table table -i text.txt
fails "no-such: No such file" "$embed" ngram query -m "$model" --table table -i no-such
fails "missing" "$embed" ngram query -m "$model" --table missing -i text.txt

run 0 "$embed" ngram warm table
lines out 0
run 0 "$embed" ngram warm --bytes 100 --key key sealed
fails "missing" "$embed" ngram warm missing
wrong "--bytes: expected a size" "$embed" ngram warm --bytes -1 table

# Advise: "ababc" in every text, after a token of its own.
for first in 1 2 3 4 5 6 7 8 9 10; do
    printf '[%s,%s,%s,%s,%s,%s]\n' "$((first + 30))" "$a" "$b" "$a" "$b" "$c"
done >sample.jsonl
run 0 "$embed" ngram advise -m "$model" --ids -i sample.jsonl -K 2,8 --sizes 1,10k --min-count 9 \
    --held-out 0.2 --plot advice.svg
said out "held out 2 texts, 12 tokens"
said out "33.3 %" # one pair is frequent enough: "ab", 2 of 6 tokens
said advice.svg "<svg xmlns"
said advice.svg "K = 8"
cp advice.svg first.svg
run 0 "$embed" ngram advise -m "$model" --ids -i sample.jsonl -K 2,8 --sizes 1,10k --min-count 9 \
    --held-out 20% -j 1 --json --plot advice.svg
said out '"texts_held": 2,'
said out '"k": 8,'
said out '"coverage": 0.333333'
same advice.svg first.svg
wrong "-m DIR is missing" "$embed" ngram advise -i sample.jsonl
wrong "-K: expected amounts from 2 to 8, found '9'" "$embed" ngram advise -m "$model" -K 9
wrong "-K: expected" "$embed" ngram advise -m "$model" -K ""
wrong "--sizes: expected amounts" "$embed" ngram advise -m "$model" --sizes 10k,x
wrong "--held-out: expected" "$embed" ngram advise -m "$model" --held-out 100%
wrong "--held-out: expected a share" "$embed" ngram advise -m "$model" --held-out 1.5
wrong "--memory: expected a size" "$embed" ngram advise -m "$model" -S lots
wrong "--plot: expected a name that ends in .svg" "$embed" ngram advise -m "$model" --plot a.png
run 1 "$embed" ngram advise -m "$model" -i text.txt
said err "at least 2 texts"
run 1 "$embed" ngram advise -m "$model" -i text.txt -S 1k
said err "memory: expected at least"
passed

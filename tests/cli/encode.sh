#!/bin/sh
# usage: sh tests/cli/encode.sh EMBED CHECKPOINTS
# embed encode and tokenize: formats, options, streams, failures.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
moe=$2/nomic-moe
. "$here/check.sh"

printf 'the first text\n\nthird text, somewhat longer than the others\nlast' >texts.txt
cat >texts.jsonl <<'END'
{"text": "the first text", "id": 7}
{"text": ""}

{"text": "third text, somewhat longer than the others", "_id": "c"}
{"text": "last", "title": "not read here"}
END

npy_shape() { # npy_shape FILE SHAPE
    head -c 128 "$1" | grep -aqF "'shape': $2" || failed "$1: expected shape $2"
}

# Formats and streams give the same vectors.
run 0 "$embed" encode -m "$model" -i texts.txt -o a.npy
lines out 0
lines err 0
npy_shape a.npy "(4, 60)"
[ "$(wc -c <a.npy)" -eq $((128 + 4 * 60 * 4)) ] || failed "a.npy has the wrong size"
run 0 "$embed" encode -m "$model" -i texts.txt
same a.npy out
run_with 0 texts.txt "$embed" encode -m "$model" -i - -o -
same a.npy out
"$embed" encode -m "$model" <texts.txt | cat >piped.npy
same a.npy piped.npy
run 0 "$embed" encode -m "$model" -i texts.jsonl -o b.npy
same a.npy b.npy
run_with 0 texts.jsonl "$embed" encode -m "$model" --input-format jsonl -o b.npy
same a.npy b.npy
awk '{printf "%s\r\n", $0}' texts.txt >crlf.txt
printf '\357\273\277' | cat - crlf.txt >bom.txt
run 0 "$embed" encode -m "$model" -i bom.txt -o b.npy
same a.npy b.npy

# Nor do threads, batches or ready-made ids change a bit.
run 0 "$embed" encode -m "$model" -i texts.txt -o b.npy --threads 3 --batch-tokens 8
same a.npy b.npy
run 0 "$embed" tokenize -m "$model" -i texts.txt
lines out 4
cp out ids.jsonl
run 0 "$embed" encode -m "$model" --ids -i ids.jsonl -o b.npy
same a.npy b.npy
run 0 "$embed" tokenize -m "$model" -i texts.jsonl
same out ids.jsonl
run 0 "$embed" tokenize -m "$model" -i texts.txt --counts
tr -cd ',\n' <ids.jsonl | awk '{print length($0) + 1}' >counts
same out counts
run 0 "$embed" tokenize -m "$model" -i texts.txt --counts --no-special
awk '{print $1 - 2}' counts >bare
same out bare

# JSON lines: one object a text, the id where there is one.
run 0 "$embed" encode -m "$model" -i texts.jsonl --format jsonl
lines out 4
said out '{"id":"7","embedding":['
said out '{"id":"c","embedding":['
run 0 "$embed" encode -m "$model" -i texts.jsonl -o c.jsonl
same out out
lines c.jsonl 4

# Width, type, normalisation.
run 0 "$embed" encode -m "$model" -i texts.txt --dim 12 -o d.npy
npy_shape d.npy "(4, 12)"
run 0 "$embed" encode -m "$model" -i texts.txt --no-normalize -o d.npy
cmp -s a.npy d.npy && failed "--no-normalize changes nothing"
run 0 "$embed" encode -m "$model" -i texts.txt --dtype f16 -o d.npy
head -c 128 d.npy | grep -aqF "'descr': '<f2'" || failed "expected <f2"
run 0 "$embed" encode -m "$model" -i texts.txt --dtype ubinary --dim 20 -o d.npy
npy_shape d.npy "(4, 3)"
run 0 "$embed" encode -m "$model" -i texts.txt --write-ranges r.npy -o b.npy
same a.npy b.npy
npy_shape r.npy "(2, 60)"
run 0 "$embed" encode -m "$model" -i texts.txt --dtype int8 --ranges r.npy -o d.npy
head -c 128 d.npy | grep -aqF "'descr': '|i1'" || failed "expected |i1"
npy_shape d.npy "(4, 60)"
run 1 "$embed" encode -m "$model" -i texts.txt --dtype int8 --ranges a.npy -o e.npy
said err "a.npy: expected float32 of shape (2, 60)"
fails "no-such.npy" "$embed" encode -m "$model" -i texts.txt --dtype int8 --ranges no-such.npy
fails "dim" "$embed" encode -m "$model" -i texts.txt --dim 61 -o e.npy

# Prompts: a role is the same as its prompt given by hand, and as the prompt in the text.
run 0 "$embed" encode -m "$moe" -i texts.txt -r query -o q.npy
run 0 "$embed" encode -m "$moe" -i texts.txt --prefix 'search_query: ' -o p.npy
same q.npy p.npy
sed 's/^/search_query: /' texts.txt >prompted.txt
run 0 "$embed" encode -m "$moe" -i prompted.txt -r none -o p.npy
same q.npy p.npy
run 0 "$embed" encode -m "$moe" -i texts.txt -r document -o p.npy
cmp -s q.npy p.npy && failed "query and document give the same vectors"

# Cut texts are counted; --truncate error refuses them.
awk 'BEGIN {for (i = 0; i < 500; i++) printf "text "; print ""; print "short"}' >long.txt
run 0 "$embed" encode -m "$model" -i long.txt -o l.npy
lines err 1
said err "1 of 2 texts were cut to "
run 0 "$embed" encode -m "$model" -i long.txt -o l.npy --max-tokens 8
said err "1 of 2 texts were cut to 8 tokens"
fails "EMBED_ERR_TOO_LONG" "$embed" encode -m "$model" -i long.txt -o x.npy --truncate error
said err "long.txt: lines 1 to 2"
run 0 "$embed" encode -m "$model" -i texts.txt -o l.npy --progress
said err "4 texts, "

# Nothing to do is no failure.
run 0 "$embed" encode -m "$model" -i /dev/null -o n.npy
npy_shape n.npy "(0, 60)"
run 0 "$embed" tokenize -m "$model" -i /dev/null
lines out 0

# Faulty input: the line is named, and no file appears under the name asked for.
bad() { # bad TEXT OPTION...: reads the file `bad`
    text=$1
    shift
    fails "$text" "$embed" encode -m "$model" -i bad -o x.npy "$@"
}
printf '{"text": "a"}\n{"text": 3}\n' >bad
bad 'bad: line 2: expected {"text": "..."}' --input-format jsonl
printf '{"text": "a"}\n{"txt": "a"}\n' >bad
bad 'bad: line 2: expected {"text": "..."}, found an object without "text"' --input-format jsonl
printf '["a"]\n' >bad
bad 'bad: line 1: expected {"text": "..."}, found array' --input-format jsonl
printf '{"text": "a"}\n{"text": \n' >bad
bad 'bad: line 2: not JSON' --input-format jsonl
printf '[1, 2]\n[]\n' >bad
bad 'bad: line 2: expected an array of token ids' --ids
printf '[1, "2"]\n' >bad
bad 'bad: line 1: expected token ids' --ids
printf '[1, -2]\n' >bad
bad 'bad: line 1: expected token ids' --ids
printf '[1, 3000000000]\n' >bad
bad 'bad: line 1: expected token ids' --ids
printf '[1, 2]\n[1, 100000]\n' >bad
bad 'bad: lines 1 to 2: EMBED_ERR_ARG' --ids
printf 'ok\n\377\n' >bad
bad 'EMBED_ERR_UTF8' --strict-utf8
run 0 "$embed" encode -m "$model" -i bad -o y.npy
fails "no-such-file: No such file" "$embed" encode -m "$model" -i no-such-file -o x.npy
fails "expected a file, found a directory" "$embed" encode -m "$model" -i "$work" -o x.npy
fails "No such file or directory" "$embed" encode -m "$model" -i texts.txt -o no/such/dir.npy
for left in x.npy x.npy.tmp; do
    [ ! -e $left ] || failed "$left is left behind"
done
if [ "$(id -u)" -ne 0 ]; then # root may read anything
    : >secret
    chmod 000 secret
    fails "secret: Permission denied" "$embed" encode -m "$model" -i secret -o x.npy
fi
run 1 "$embed" tokenize -m "$model" -i bad --strict-utf8
said err "bad: line 2: EMBED_ERR_UTF8"

# A full device is a failure, and a device is written in place.
if [ -e /dev/full ]; then
    fails "No space left" "$embed" encode -m "$model" -i texts.txt -o /dev/full
    last="tokenize > /dev/full"
    status=0
    "$embed" tokenize -m "$model" -i texts.txt >/dev/full 2>err || status=$?
    [ $status -eq 1 ] || failed "expected exit status 1, found $status"
    said err "No space left"
    run 0 "$embed" encode -m "$model" -i texts.txt -o /dev/null
    [ -c /dev/null ] || failed "/dev/null was replaced"
fi

# An older result stays until the new one is complete; a link stays a link.
cp a.npy kept.npy
ln -s kept.npy link.npy
fails "line 1" "$embed" encode -m "$model" --ids -i texts.txt -o link.npy
same a.npy kept.npy
run 0 "$embed" encode -m "$model" -i texts.txt --dim 12 -o link.npy
[ -h link.npy ] || failed "link.npy was replaced"
npy_shape kept.npy "(4, 12)"

# Interrupted: dies of the signal and leaves nothing behind.
last="encode, then SIGTERM"
mkfifo slow
"$embed" encode -m "$model" -i slow -o i.npy 2>err &
job=$!
exec 3>slow
echo "one text" >&3
tries=0
while [ ! -e i.npy.tmp ] && [ $tries -lt 1200 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
[ -e i.npy.tmp ] || failed "i.npy.tmp did not appear"
kill -TERM $job
status=0
wait $job || status=$?
exec 3>&-
[ $status -eq 143 ] || failed "expected exit status 143, found $status"
[ ! -e i.npy ] && [ ! -e i.npy.tmp ] || failed "a file is left behind"
passed

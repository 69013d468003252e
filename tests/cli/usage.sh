#!/bin/sh
# usage: sh tests/cli/usage.sh EMBED CHECKPOINTS
# Help and wrong usage of every command.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
. "$here/check.sh"

run 0 "$embed" --help
said out "usage: embed COMMAND"
lines err 0
run 0 "$embed" --version
said out "embed "
wrong "no command" "$embed"
wrong "unknown command 'encod'" "$embed" encod

for command in info encode tokenize similarity search bench compare; do
    run 0 "$embed" "$command" --help
    lines err 0
    said out "usage: embed $command"
    said out "-m, --model DIR"
    said out "examples"
    [ "$(sed '1,/^examples$/d' out | wc -l)" -eq 2 ] || failed "expected two examples"
    run 0 "$embed" "$command" -h
    said out "usage: embed $command"
    wrong "embed $command: unrecognized option '--colour'" "$embed" "$command" --colour
    wrong "embed $command: invalid option -- 'Z'" "$embed" "$command" -Z
    wrong "requires an argument" "$embed" "$command" -m
    wrong "requires an argument" "$embed" "$command" --model
done

wrong "-m DIR is missing" "$embed" info
wrong "-m DIR is missing" "$embed" encode -i /dev/null
wrong "-m DIR is missing" "$embed" similarity a b
wrong "unexpected argument 'extra'" "$embed" info -m "$model" extra
wrong "--device DEVICE is missing" "$embed" compare -m "$model"
wrong "unexpected argument 'extra'" "$embed" compare -m "$model" --device cpu extra
wrong "unexpected argument 'extra'" "$embed" encode -m "$model" extra
wrong "unexpected argument 'c'" "$embed" similarity -m "$model" a b c
wrong "too few arguments" "$embed" similarity -m "$model" a
wrong "--corpus FILE is missing" "$embed" search -m "$model" query
wrong "no query" "$embed" search -m "$model" --corpus /dev/null

for number in 0 -1 x 1x 1.5 "" 99999999999999999999; do
    wrong "--threads: expected a whole number from 1 to 1024" \
        "$embed" encode -m "$model" --threads "$number"
done
wrong "found '0'" "$embed" encode -m "$model" --dim 0
wrong "found 'x'" "$embed" search -m "$model" --corpus /dev/null -k x query
wrong "--tokens: expected" "$embed" bench -m "$model" --tokens many
wrong "--format: expected npy or jsonl, found 'csv'" "$embed" encode -m "$model" --format csv
wrong "--role: expected query, document, default or none" "$embed" encode -m "$model" -r passage
wrong "int8 and uint8 need --ranges" "$embed" encode -m "$model" --dtype int8
wrong "only for --dtype int8" "$embed" encode -m "$model" --ranges r.npy
wrong "contradict" "$embed" encode -m "$model" --normalize --no-normalize
wrong "contradict" "$embed" encode -m "$model" --prefix x -r query
wrong "--ids takes no" "$embed" encode -m "$model" --ids --prefix x
wrong ".npy files only" "$embed" encode -m "$model" --dtype f16 --format jsonl

for command in info encode tokenize bench; do
    fails "EMBED_ERR_IO" "$embed" "$command" -m "$work/missing"
    said err "missing"
done
fails "EMBED_ERR_IO" "$embed" similarity -m "$work/missing" a b
passed

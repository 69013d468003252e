#!/bin/sh
# usage: sh tests/cli/ngram_quickstart.sh EMBED CHECKPOINTS SOURCE_DIR
# examples/ngram_quickstart.sh on a small checkpoint: every step runs, and it removes only its own.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
root=$3
. "$here/check.sh"
quickstart=$root/examples/ngram_quickstart.sh

wrong "unexpected argument 'two'" sh "$quickstart" one two
wrong "--colour" sh "$quickstart" --colour
wrong "--work requires an argument" sh "$quickstart" --work
wrong "expected a checkpoint directory" sh "$quickstart" missing
wrong "expected a program" sh "$quickstart" --embed missing "$model"
wrong "expected a file" sh "$quickstart" --texts missing "$model"

run 0 sh "$quickstart" --embed "$embed" --texts "$root/examples/data/corpus.txt" --work made "$model"
for step in advise count select rows build verify publish info query; do
    said out "\$ embed ngram $step "
done
said out "\$ embed encode "
said out '"positions": 3357,'
said out "version           v000001 (current)"
said out "of the tokens"
said out "not a gain in"
said made/coverage.svg "</svg>"
cp made/store/current/rows-000.bin first
# Once more over what the first run made: the same table.
run 0 sh "$quickstart" --embed "$embed" --texts "$root/examples/data/corpus.txt" --work made "$model"
same made/store/current/rows-000.bin first
mkdir mine
touch mine/precious
wrong "was not made by this script" sh "$quickstart" --embed "$embed" --work mine "$model"
[ -f mine/precious ] || failed "a file of the user was removed"
passed

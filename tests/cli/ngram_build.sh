#!/bin/sh
# usage: sh tests/cli/ngram_build.sh EMBED CHECKPOINTS
# embed ngram build, verify, compact, publish, rollback and versions, and what scripts rely on.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
moe=$2/nomic-moe
. "$here/check.sh"

refused() { # refused TEXT COMMAND...: status 1 and the text on stderr, perhaps after the estimate
    text=$1
    shift
    run 1 "$@"
    said err "$text"
    [ "$(wc -l <err)" -le 2 ] || failed "expected one message"
}
build() { # build STATUS OPTION...
    status=$1
    shift
    run "$status" "$embed" ngram build -m "$model" "$@"
}
absent() {
    [ ! -e "$1" ] || failed "$1 is there"
}
same_files() { # same_files DIR DIR
    [ "$(ls -A "$1")" = "$(ls -A "$2")" ] || failed "$1 and $2 have other files"
    for file in $(ls -A "$1"); do
        same "$1/$file" "$2/$file"
    done
}
flip() { # flip FILE BYTE: another value there
    old=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "\\$(printf %o $(((old + 1) % 256)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

awk 'BEGIN {
    for (i = 0; i < 2000; i++)
        printf "{\"ids\":[%d,%d%s],\"count\":%d}\n", 10 + int(i / 50), 100 + i % 50,
               i % 3 ? "," 20 + i % 50 : "", 2000 - i
}' >list.jsonl
run 0 "$embed" ngram rows -m "$model" --derive mean --fgrams list.jsonl -o rows.npy
head -c 32 /dev/urandom >key
head -c 32 /dev/urandom >other
head -c 31 key >short

# Only the estimate.
build 0 --fgrams list.jsonl --rows rows.npy
lines out 0
said err "needs about"

# The same bytes with any threads, memory and temporary directory; nothing else is left.
build 0 --fgrams list.jsonl --rows rows.npy -o table --created today
mkdir temp
build 0 --fgrams list.jsonl --rows rows.npy -o again/ --created today -j 3 -S 64M -T temp --progress
said err "write rows"
said err "again/ is written"
same_files table again
[ -z "$(ls -A temp)" ] || failed "temp is not empty"
run 0 "$embed" ngram verify --full -m "$model" table
said out "good: 2000 rows"
run 1 "$embed" ngram verify -m "$moe" table
said out "rows are 60 wide, the model's word embeddings 36"
build 1 --fgrams list.jsonl --rows rows.npy -o table
said err "exists already"

# Sizes: rows within 12 % of rows x (width x element + 48).
for type in f32:4 f16:2 bf16:2 int8:1; do
    build 0 --fgrams list.jsonl --rows rows.npy --dtype "${type%:*}" -o "t_${type%:*}"
    run 0 "$embed" ngram verify --full "t_${type%:*}"
    bytes=$(cat "t_${type%:*}"/rows-*.bin | wc -c)
    want=$((2000 * (60 * ${type#*:} + 48)))
    [ "$bytes" -le $((want * 112 / 100 + 4096)) ] || failed "rows take $bytes bytes, expected $want"
    run 0 "$embed" ngram info "t_${type%:*}"
    said out "${type%:*}"
done
build 0 --fgrams list.jsonl --rows rows.npy --mode add --load 0.5 --part-size 20K -o parts \
    --corpus "what we read" --licence none --min-count 3 --min-docs 2 --parent table
[ -e parts/rows-005.bin ] || failed "expected more parts"
run 0 "$embed" ngram verify --full parts
run 0 "$embed" ngram info --json parts
said out "what we read"
id=$(sed -n 's/.*"table_id": "\(.*\)".*/\1/p' table/manifest.json)
said out "$id"
printf '{"text":"word"}\n' >texts.jsonl
run 0 "$embed" ngram query -m "$model" --table parts -v jsonl -i texts.jsonl
said out '"row":['

# Lists of other people: key order, blanks, other keys, CRLF, no count, no newline at the end.
printf '{ "count": 3, "by": [1,{}], "ids": [ 10, 11 ] }\r\n\n{"ids":[12,13,14]}' >odd.jsonl
head -c 480 /dev/zero >odd.f32
build 0 --fgrams odd.jsonl --rows odd.f32 -o odd
run 0 "$embed" ngram dump odd
lines out 2
said out '{"ids":[10,11],"count":3,'
said out '{"ids":[12,13,14],"count":0,'
: >none.jsonl
: >none.bin
build 0 --fgrams none.jsonl --rows none.bin -o none
run 0 "$embed" ngram verify --full none
run 0 "$embed" ngram query -m "$model" --table none -v jsonl -i texts.jsonl
said out '"row":[-1'
head -1 list.jsonl >one.jsonl
head -c 240 /dev/zero >one.bin
build 0 --fgrams one.jsonl --rows one.bin -o one
run 0 "$embed" ngram verify --full one

# What is wrong is named with its line; nothing is left.
wrong_list() { # wrong_list TEXT LINE
    printf '{"ids":[10,11]}\n%s\n' "$2" >wrong.jsonl
    refused "$1" "$embed" ngram build -m "$model" --fgrams wrong.jsonl --rows odd.f32 -o bad
    said err "line 2"
    absent bad
    absent bad.partial
}
wrong_list "ids[1]: expected a token of the model, 0 to 303, found 304" '{"ids":[10,304]}'
wrong_list "ids[0]: 2 is a special token" '{"ids":[2,10]}'
wrong_list "ids" '{"ids":[10]}'
wrong_list "ids" '{"ids":[10,11,12,13,14,15,16,17,18]}'
wrong_list "ids" '{"ids":[10,-1]}'
wrong_list "ids" '{"ids":[10,1.5]}'
wrong_list "ids" '{"count":1}'
wrong_list "count" '{"ids":[10,12],"count":-1}'
wrong_list "JSON" '{"ids":[10,12]'
wrong_list "the same n-gram as on line 1" '{"ids":[10,11]}'
refused "rows.npy: has 2000 rows, odd.jsonl 2 n-grams" \
    "$embed" ngram build -m "$model" --fgrams odd.jsonl --rows rows.npy -o bad
{ head -c 376 /dev/zero; printf '\000\000\300\177'; head -c 100 /dev/zero; } >nan.f32
refused "nan.f32: row 1 (odd.jsonl, line 3): element 34: expected a number" \
    "$embed" ngram build -m "$model" --fgrams odd.jsonl --rows nan.f32 -o bad
absent bad.partial
head -c 10000 rows.npy >cut.npy
refused "cut.npy" "$embed" ngram build -m "$model" --fgrams list.jsonl --rows cut.npy -o bad
refused "nothing.npy" "$embed" ngram build -m "$model" --fgrams list.jsonl --rows nothing.npy -o bad
refused "bytes" "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy -S 1M -o bad
absent bad.partial
wrong "--rows ROWS is missing" "$embed" ngram build -m "$model" --fgrams list.jsonl -o bad

# Encryption: plain and encrypted tables answer alike; three faults, three messages.
build 0 --fgrams list.jsonl --rows rows.npy --encrypt key -o sealed
refused "expected a key of 32 bytes, found 31" \
    "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy --encrypt short -o bad
run 0 "$embed" ngram dump table
cp out plain
run 0 "$embed" ngram dump --key key sealed
same out plain
run 0 "$embed" ngram verify --full --key key sealed
refused "wrong key" "$embed" ngram verify --full --key other sealed
refused "expected a key of 32 bytes" "$embed" ngram verify --full --key short sealed
refused "key" "$embed" ngram verify --full sealed
cp -r sealed broken
flip broken/rows-000.bin 5000
run 1 "$embed" ngram verify --full --key key broken
said out "authentication tag"
cp sealed/rows-000.bin broken/
truncate -s -1 broken/rows-000.bin
run 1 "$embed" ngram verify --key key broken
said out "rows-000.bin: expected"

# verify names everything that is wrong.
cp -r parts broken2
flip broken2/rows-001.bin 4200
flip broken2/rows-003.bin 9000
flip broken2/index.bin 5000
run 1 "$embed" ngram verify broken2
said out "index.bin"
run 1 "$embed" ngram verify --full --json broken2
said out '"good": false'
said out '"file": "rows-001.bin"'
said out '"file": "rows-003.bin"'
said out '"file": "index.bin"'
cp parts/index.bin broken2/
run 1 "$embed" ngram verify --full broken2
said out "rows-001.bin: broken2/rows-001.bin: row "
run 0 "$embed" ngram verify --quick broken2

# A run that was stopped.
mkdir stopped.partial
refused "--resume" "$embed" ngram build -m "$model" --fgrams list.jsonl --rows rows.npy -o stopped
build 0 --fgrams list.jsonl --rows rows.npy -o stopped --resume --created today
same_files table stopped
build 0 --fgrams list.jsonl --rows rows.npy -o stopped --resume --created today

# compact
printf '1999\n{"row":7,"hits":5}\n' >log
run 0 "$embed" ngram compact table --by-access log --drop-below 1 -o hot
run 0 "$embed" ngram dump hot
head -1 out >first
sed -n 8p plain | sed 's/"row":7,/"row":0,/' >want
same first want
run 0 "$embed" ngram compact table --drop-below 1001 --dtype f16 -o small
run 0 "$embed" ngram verify --full small
said out "good: 1000 rows"
said_parent=$(grep -c "\"parent\": \"$id\"" small/manifest.json)
[ "$said_parent" = 1 ] || failed "small does not name its parent"
run 0 "$embed" ngram compact --key key sealed -o sealed2
run 0 "$embed" ngram verify --full --key key sealed2
printf '2000\n' >log
refused "log: line 1: row: expected less than 2000" \
    "$embed" ngram compact table --by-access log -o bad
wrong "-o TABLE is missing" "$embed" ngram compact table

# publish, rollback, versions
run 0 "$embed" ngram publish store table
said out "v000001"
run 0 "$embed" ngram publish store small
said out "v000002"
[ "$(readlink store/current)" = v000002 ] || failed "current is wrong"
run 0 "$embed" ngram verify --full store
said out "good: 1000 rows"
run 0 "$embed" ngram rollback store
said out "v000001"
same_files table store/v000001
refused "no version before" "$embed" ngram rollback store
run 0 "$embed" ngram rollback store v000002
refused "no version 9" "$embed" ngram rollback store 9
run 0 "$embed" ngram versions store
lines out 2
said out "* v000002"
refused "" "$embed" ngram publish store broken
run 1 "$embed" ngram publish store broken2
[ "$(readlink store/current)" = v000002 ] || failed "current changed"
ln -sfn v000077 store/current
fails "store/current: points to the version v000077, which is not there" "$embed" ngram info store
ln -sfn v000002 store/current
run 0 "$embed" ngram publish --move store parts
absent parts
run 0 "$embed" ngram versions store --json
said out '"version": "v000003"'

# What others left where the table is to grow, and texts that are none.
mkdir elsewhere
ln -s elsewhere linked.partial
refused "linked.partial: expected a directory" "$embed" ngram build -m "$model" \
    --fgrams list.jsonl --rows rows.npy --resume -o linked
[ -z "$(ls elsewhere)" ] || failed "expected nothing in elsewhere"
refused "provenance (corpus, licence ...): expected UTF-8" "$embed" ngram build -m "$model" \
    --fgrams list.jsonl --rows rows.npy --corpus "$(printf 'caf\351')" -o latin
absent latin
absent latin.partial
printf '{"ids":[\377\033[2J]}\n' >binary.jsonl
refused 'line 1 ({"ids":[??[2J]})' "$embed" ngram build -m "$model" --fgrams binary.jsonl \
    --rows rows.npy -o latin
passed

#!/bin/sh
# usage: sh tests/cli/encode_device.sh EMBED CHECKPOINTS [MODULE]
# --device: what is refused and why; and with MODULE, libembed_emulated.so, the emulated device against
# the CPU, for every checkpoint.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
checkpoints=$2
model=$2/bert
module=${3:-}
. "$here/check.sh"

for device in gpu cuda: cuda:x cuda:-1 cuda:1x cuda:0, cuda:0,,1 cuda:0,all cpu:1 auto:0 ""; do
    wrong "--device: expected cpu, auto, or cuda or emulated, alone or with :N, :N,N... or :all, found '$device'" \
        "$embed" encode -m "$model" --device "$device"
done
wrong "--device-dtype: expected f32, f16 or bf16, found 'int8'" \
    "$embed" encode -m "$model" --device-dtype int8
fails "device_flags: EMBED_TF32: expected device_dtype EMBED_F32, found EMBED_BF16" \
    "$embed" encode -m "$model" --device-dtype bf16 --tf32 </dev/null
fails "EMBED_ERR_DEVICE" "$embed" similarity -m "$model" --device cuda:4711 a b
"$embed" devices | grep -q '^cuda:.* usable' ||
    fails "EMBED_ERR_DEVICE" "$embed" similarity -m "$model" --device cuda a b
run 0 "$embed" similarity -m "$model" a b
mv out cpu
run 0 "$embed" similarity -m "$model" --device cpu a b
same out cpu
run 0 "$embed" similarity -m "$model" --device auto a b

[ -e "$(dirname "$embed")/../lib/libembed_emulated.so" ] ||
    fails "the CMake preset emulation" "$embed" encode -m "$model" --device emulated
[ -n "$module" ] || { passed; exit 0; }

# As a build of the preset lays them out.
mkdir bin lib
cp "$embed" bin/embed
cp "$module" lib/libembed_emulated.so
mkdir links
ln -s "$work/bin/embed" links/embed
run 0 links/embed similarity -m "$model" --device emulated a b # as from a directory of links
embed=$work/bin/embed
run 0 "$embed" similarity -m "$model" 'a cat sleeps' 'the kitten is dozing'
on_cpu=$(cat out)
run 0 "$embed" similarity -m "$model" --device emulated 'a cat sleeps' 'the kitten is dozing'
awk -v a="$on_cpu" -v b="$(cat out)" 'BEGIN { exit !((a - b) ^ 2 < 1e-9) }' ||
    failed "expected $on_cpu"
run 0 "$embed" compare -m "$checkpoints/nomic-moe" --device emulated
for how in --tf32 "--device-dtype f16" "--device-dtype bf16"; do # no bound of f32
    # shellcheck disable=SC2086
    run 0 "$embed" compare -m "$checkpoints/bert" --device emulated $how
done
printf 'a cat sleeps\n\nthe kitten is dozing on the sofa\n' >short.txt
for model in "$checkpoints"/*/; do
    run 0 "$embed" compare -m "$model" --device emulated -i short.txt
    said out "greatest difference of a component"
    said out "least cosine"
done
for i in 1 2 3 4 5 6 7 8; do echo "the quick brown fox number $i of many"; done >texts.txt
model=$checkpoints/nomic-moe
run 0 "$embed" encode -m "$model" --device emulated --batch-tokens 32 -i texts.txt -o v.npy
run 0 "$embed" search -m "$model" --device emulated --corpus texts.txt 'number 3'
# What runs the products is told: cuBLASLt is emulated by the definition, and has no clock.
for how in library auto own; do
    run 0 "$embed" bench -m "$checkpoints/bert" --device emulated --device-dtype bf16 \
        --device-products $how --texts 2 --tokens 8 --reps 1 --json
    tr -d ' \n' <out >$how.json
done
grep -q '"name":"qkv".*"runs":"library"' library.json || failed "$(cat library.json)"
grep -q '"runs":"own","reason":"thedevicehasnoclock' auto.json || failed "$(cat auto.json)"
grep -q '"products":\[{"runs":"own","reason":""}\]' own.json || failed "$(cat own.json)"
run 0 "$embed" bench -m "$checkpoints/bert" --device emulated --device-products library \
    --texts 2 --tokens 8 --reps 1
said out "own us  library us"
awk 'BEGIN { for (i = 0; i < 40; i++) printf "{\"ids\":[%d,%d],\"count\":%d}\n", 20 + i, 21, 40 - i }' >list
for device in cpu emulated; do
    run 0 "$embed" ngram rows -m "$model" --fgram-model "$model" --fgrams list --device $device -o $device.npy
    od -An -v -w4 -tf4 -j128 $device.npy >$device.txt
done
[ "$(wc -l <cpu.txt)" -ge 400 ] || failed "expected numbers in cpu.npy"
paste cpu.txt emulated.txt | awk '($1 - $2) ^ 2 > 1e-8 { exit 1 }' || failed "the rows differ"
# Rows of a table: each of their ways to the device makes the same bytes, and says what it did.
run 0 "$embed" ngram rows -m "$model" --derive mean --fgrams list -o rows.npy
run 0 "$embed" ngram build -m "$model" --fgrams list --rows rows.npy --dtype int8 -o table
awk 'BEGIN { for (i = 0; i < 9; i++) { printf "["; for (j = 0; j < 12; j++) printf "%d,21,", 20 + (5 * i + j) % 40; print "30]" } }' >ids
run 0 "$embed" encode -m "$model" --ids -i ids --table table -o cpu_table.npy
for place in copy map cache resident auto; do
    run 0 "$embed" encode -m "$model" --ids -i ids --table table --device emulated --batch-tokens 64 \
        --table-place $place --stats -o $place.npy
    tr -d ' \n' <out >stats
    case $place in
    auto) said stats '"place":"resident"' ;;
    *) said stats "\"place\":\"$place\"" ;;
    esac
    grep -q '"matched":0,' stats && failed "nothing matched"
    for key in device_bytes device_hits device_wait_seconds; do said stats "\"$key\":"; done
    same $place.npy copy.npy
done
for name in cpu_table copy; do od -An -v -w4 -tf4 -j128 $name.npy >$name.txt; done
paste cpu_table.txt copy.txt | awk '($1 - $2) ^ 2 > 4e-10 { exit 1 }' || failed "the vectors differ"
run 0 "$embed" encode -m "$model" --ids -i ids --table table --device emulated --table-place cache \
    --device-cache 4KiB --batch-tokens 32 -o w.npy
same w.npy copy.npy
fails "expected plain rows in a mapping, found rows that are read, not mapped" "$embed" encode \
    -m "$model" --ids -i ids --table table --table-mode read --device emulated --table-place map -o w.npy
wrong "--table-place and --device-cache need --device" \
    "$embed" encode -m "$model" --ids -i ids --table table --table-place copy -o w.npy
wrong "--device-cache needs --table-place auto or cache" "$embed" encode -m "$model" --ids -i ids \
    --table table --device emulated --table-place copy --device-cache 1MiB -o w.npy
wrong "need --table DIR" "$embed" encode -m "$model" -i ids --device emulated --table-place copy -o w.npy
# Several devices: the bytes of one, whichever way the model lies on them.
model=$checkpoints/nomic-moe
for device in "emulated:3,1" "emulated:all" "emulated:0,1,2 --placement experts"; do
    # shellcheck disable=SC2086
    run 0 "$embed" encode -m "$model" --device $device --batch-tokens 32 -i texts.txt -o several.npy
    same several.npy v.npy
done
fails "devices[1]: 1 is there twice, also at 0" \
    "$embed" encode -m "$model" --device emulated:1,1 -i texts.txt -o w.npy
fails "devices[1]: expected a device below 8, found 8" \
    "$embed" encode -m "$model" --device emulated:0,8 -i texts.txt -o w.npy
run 0 "$embed" similarity -m "$model" --device emulated --tf32 'number 3' 'number 4'
mv out tf32
run 0 "$embed" similarity -m "$model" --device emulated 'number 3' 'number 4'
awk -v a="$(cat tf32)" -v b="$(cat out)" 'BEGIN { exit !((a - b) ^ 2 < 1e-5) }' || failed "tf32 is far off"
run 0 "$embed" bench -m "$model" --device emulated --device-dtype bf16 --texts 2 --tokens 8 --reps 1
passed

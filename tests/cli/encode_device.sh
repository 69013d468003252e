#!/bin/sh
# usage: sh tests/cli/encode_device.sh EMBED CHECKPOINTS
# --device: what is refused and why; and, in a build of the preset `emulation`, the emulated device
# against the CPU, for every architecture.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
checkpoints=$2
model=$2/bert
. "$here/check.sh"

for device in gpu cuda: cuda:x cuda:-1 cuda:1x ""; do
    wrong "--device: expected cpu, cuda, cuda:N, auto or emulated, found '$device'" \
        "$embed" encode -m "$model" --device "$device"
done
wrong "--device-dtype: expected f32, f16 or bf16, found 'int8'" \
    "$embed" encode -m "$model" --device-dtype int8
fails "EMBED_ERR_DEVICE" "$embed" similarity -m "$model" --device cuda:4711 a b
"$embed" devices | grep -q '^cuda:.* usable' ||
    fails "EMBED_ERR_DEVICE" "$embed" similarity -m "$model" --device cuda a b
run 0 "$embed" similarity -m "$model" a b
mv out cpu
run 0 "$embed" similarity -m "$model" --device cpu a b
same out cpu
run 0 "$embed" similarity -m "$model" --device auto a b

if ! [ -e "$(dirname "$embed")/../lib/libembed_emulated.so" ]; then
    fails "the CMake preset emulation" "$embed" encode -m "$model" --device emulated
    passed
    exit 0
fi
for i in 1 2 3 4 5 6 7 8; do echo "the quick brown fox number $i of many"; done >texts.txt
for model in "$checkpoints"/*/; do
    run 0 "$embed" similarity -m "$model" 'a cat sleeps' 'the kitten is dozing'
    on_cpu=$(cat out)
    run 0 "$embed" similarity -m "$model" --device emulated 'a cat sleeps' 'the kitten is dozing'
    awk -v a="$on_cpu" -v b="$(cat out)" 'BEGIN { exit !((a - b) ^ 2 < 1e-9) }' ||
        failed "$model: expected $on_cpu"
    run 0 "$embed" encode -m "$model" --device emulated --batch-tokens 64 -i texts.txt -o v.npy
    run 0 "$embed" search -m "$model" --device emulated --corpus texts.txt 'number 3'
done
passed

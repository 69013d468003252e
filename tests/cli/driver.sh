#!/bin/sh
# usage: sh tests/cli/driver.sh EMBED CHECKPOINTS DRIVERS
# The real CUDA module with the driver of tests/device/fake_driver.c, which lies in DRIVERS: what is
# wrong with a driver is told by the list and by a context, auto goes to the CPU, and nothing hangs.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
model=$2/bert
drivers=$3
. "$here/check.sh"

run 0 "$embed" similarity -m "$model" a b
mv out cpu
check() { # MODE REASON
    export EMBED_TEST_DRIVER="$1"
    run 0 env LD_LIBRARY_PATH="$drivers" timeout 60 "$embed" devices
    said out "cuda      unusable  $2"
    for device in cuda cuda:0 cuda:3; do
        fails "$2" env LD_LIBRARY_PATH="$drivers" timeout 60 "$embed" similarity -m "$model" \
            --device $device a b
        said err "EMBED_ERR_DEVICE"
    done
    run 0 env LD_LIBRARY_PATH="$drivers" timeout 60 "$embed" similarity -m "$model" \
        --device auto a b
    same out cpu
}
check old "driver too old: it supports CUDA 12.4, this module needs 13.0"
check none "no device: the driver works, but shows no GPU"
check broken "cudaGetDeviceCount: "

# A module of another version, and a file that is none, beside the program.
mkdir bin
cp "$embed" bin/embed
echo "not a shared object" >bin/libembed_cuda.so
run 0 bin/embed devices
said out "libembed_cuda.so"
fails "libembed_cuda.so" bin/embed similarity -m "$model" --device cuda a b
run 0 bin/embed similarity -m "$model" --device auto a b
same out cpu
passed

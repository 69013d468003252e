#!/bin/sh
# usage: sh tests/abi/module.sh LIBEMBED_CUDA_SO
# The module for GPUs exports its entry alone and is linked to libc alone, so that it loads, and can
# say what is missing, on a machine with no part of CUDA.
set -eu
exported=$(nm -D --defined-only "$1" | awk '{print $3}')
[ "$exported" = embed_backend_open ] || {
    echo "$1: expected to export embed_backend_open alone, found:"
    echo "$exported"
    exit 1
}
foreign=$(objdump -p "$1" | awk '$1 == "NEEDED" {print $2}' |
    grep -vE '^(libc|libm|libdl|librt|libpthread|ld-linux[^ ]*)\.so' || true)
[ -z "$foreign" ] || { echo "$1 needs: $foreign"; exit 1; }
echo "1 entry"

#!/bin/sh
# usage: sh tests/install/plain_build.sh SOURCE BUILD
# Without OpenBLAS, cmocka and CUDA: the library, its program and the checks of GPUs are built in BUILD
# and work; of OpenBLAS and cmocka nothing is even looked for.
set -eu
source=$1
build=$2

failed() {
    echo "FAILED: $1"
    tail -n 20 "$build/log"
    exit 1
}

mkdir -p "$build"
set -- -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=Debug -DEMBED_OPENBLAS=OFF -DEMBED_CMOCKA=OFF \
    -DEMBED_CUDA=OFF
[ -f "$build/CMakeCache.txt" ] || ! command -v ninja >/dev/null 2>&1 || set -- "$@" -G Ninja
! command -v ccache >/dev/null 2>&1 ||
    set -- "$@" -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache
cmake "$@" >"$build/log" 2>&1 || failed "configure"
grep -q "No cmocka" "$build/log" || failed "nothing is said of the tests that are left out"
if grep -qE '^(OPENBLAS_SERIAL|CMOCKA_[A-Z]*):' "$build/CMakeCache.txt"; then
    failed "OpenBLAS or cmocka was looked for"
fi
cmake --build "$build" --target embed_program gpu_layernorm_emulated gpu_forward \
    >"$build/log" 2>&1 || failed "build"
"$build/bin/embed" bench -m "$source/tests/golden/checkpoints/bert" --texts 2 --tokens 8 --reps 1 \
    >"$build/log" 2>&1 || failed "encoding"
grep -q "built without OpenBLAS" "$build/log" || failed "what is missing is not said"
"$build/bin/gpu_layernorm_emulated" >"$build/log" 2>&1 || failed "checks of a kernel"
grep -q " 0 failed" "$build/log" || failed "no count of failures"
echo "built and works without OpenBLAS and cmocka"

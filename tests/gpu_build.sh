#!/bin/sh
# What tests/gpu.sh and bench/gpu.sh share.
#   gpu_build.sh --there                         status 0: an NVIDIA driver answers for a GPU
#   gpu_build.sh cuda|emulated DIR TARGETS [OPTION]...   configure and build there, CMake's options last
#   gpu_build.sh --links BUILD DIR               DIR/bin and DIR/lib as the library expects to find the
#                                                emulated device
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

case "${1:-}" in
--there)
    [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || nvidia-smi -L 2>/dev/null | grep -q '^GPU'
    exit ;;
--links)
    rm -rf "$3"
    mkdir -p "$3/bin" "$3/lib"
    module=$2/lib/libembed_emulated.so
    [ -e "$module" ] || module=$2/emulated/libembed_emulated.so
    ln -s "$module" "$3/lib/libembed_emulated.so"
    for program in "$2"/bin/gpu_*; do
        ln -s "$program" "$3/bin/"
    done
    exit ;;
cuda | emulated) ;;
*) echo "usage: gpu_build.sh cuda|emulated DIR TARGETS [OPTION]..." >&2; exit 2 ;;
esac

device=$1
build=$2
targets=$3
shift 3
set -- -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DEMBED_OPENBLAS=OFF -DEMBED_CMOCKA=OFF "$@"
if [ "$device" = cuda ]; then
    # Code for this machine's GPUs only: all architectures take minutes.
    architectures=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
        tr -d . | sed -n 's/^\([0-9][0-9]*\)$/\1-real/p' | sort -u | paste -sd ';' - || true)
    set -- -DEMBED_CUDA=ON "$@"
    [ -z "$architectures" ] || set -- "-DEMBED_CUDA_ARCHITECTURES=$architectures" "$@"
    targets="$targets embed_cuda"
else
    set -- -DEMBED_CUDA=OFF "$@"
fi
[ -f "$build/CMakeCache.txt" ] || ! command -v ninja >/dev/null 2>&1 || set -- -G Ninja "$@"
mkdir -p "$build"
echo "building in $build"
# shellcheck disable=SC2086 # several targets
if ! { cmake "$@" && cmake --build "$build" -j "$(nproc)" --target $targets; } >"$build/gpu-build.log" 2>&1; then
    tail -n 20 "$build/gpu-build.log" >&2
    echo "the build failed; all of it is in $build/gpu-build.log" >&2
    exit 1
fi

#!/bin/sh
# Speed on this machine's GPU against the limits of the same run and against PyTorch.
set -eu

usage() {
    cat <<'EOF'
usage: sh bench/gpu.sh [OPTION]...

Measures this library on the first GPU of this machine in less than 8 minutes: a copy and the fastest
bf16 product as the limits of this very run, every kernel and the whole model beside them, PyTorch
(if python3 has it, with CUDA), and n-gram rows from a table of the 100 GB class (a sparse file: 2 GB
of disk). One line per figure, with its goal where there is one, and one CSV. Builds what it needs
with CMake and nvcc unless --build names a build. Without a GPU it says so and does nothing.

what to measure
  --only LIST      comma-separated: limits, memory, products, moe, attention, model, mixed, table
                   (all; limits always)
  --rounds N       rounds of each comparison, taken in turns (7)
  --device DEVICE  cuda, or emulated: the kernels compiled for the CPU, with --quick, to check the
                   benchmark itself (cuda)
  --quick          tiny shapes and one round: nothing about speed

how
  --csv FILE       results (BUILD/gpu-bench/results.csv)
  --work DIR       where a random checkpoint of 2 GB (kept) and the table (removed) are written
                   (BUILD/gpu-bench)
  --build DIR      a build to use as it is; if it does not hold gpu_bench it is built there
                   (build/gpu, brought up to date)
  --cmake OPTION   an option for CMake, such as -DXXHASH_INCLUDE_DIR=DIR; may be repeated
  -h, --help       print this text

PYTHON names another python3.

examples
  sh bench/gpu.sh --csv bench/results/h100.csv
  sh bench/gpu.sh --only memory,products
EOF
}

wrong() {
    echo "bench/gpu.sh: $1; see --help" >&2
    exit 2
}

sections="limits memory products moe attention model mixed table"
only=""
rounds=7
device=cuda
quick=""
csv=""
work=""
build=""
options=""
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --quick) quick=--quick; shift; continue ;;
    --*=*)
        value=${1#*=}
        name=${1%%=*}
        shift
        set -- "$name" "$value" "$@" ;;
    esac
    case "$1" in
    --only | --rounds | --device | --csv | --work | --build | --cmake)
        [ $# -ge 2 ] || wrong "$1 needs a value" ;;
    *) wrong "unexpected argument '$1'" ;;
    esac
    case "$1" in
    --only) only=$2 ;;
    --rounds) rounds=$2 ;;
    --device) device=$2 ;;
    --csv) csv=$2 ;;
    --work) work=$2 ;;
    --build) build=$2 ;;
    --cmake) options="$options $2" ;;
    esac
    shift 2
done
for name in $(echo "$only" | tr ',' ' '); do
    case " $sections " in
    *" $name "*) ;;
    *) wrong "--only: expected some of $(echo "$sections" | sed 's/ /, /g'), found '$name'" ;;
    esac
done
case "$rounds" in
[1-9] | [12][0-9] | 3[01]) ;;
*) wrong "--rounds: expected 1 to 31, found '$rounds'" ;;
esac
case "$device" in
cuda | emulated) ;;
*) wrong "--device: expected cuda or emulated, found '$device'" ;;
esac
[ "$device" = cuda ] || [ -n "$quick" ] || wrong "--device emulated: it needs --quick"

root=$(cd "$(dirname "$0")/.." && pwd)
given=$build
: "${build:=$root/build/gpu}"
if [ "$device" = cuda ] && ! sh "$root/tests/gpu_build.sh" --there; then
    echo "Nothing was measured: this machine has no GPU that an NVIDIA driver answers for."
    exit 0
fi
target=gpu_bench
[ "$device" = cuda ] || target="gpu_bench embed_emulated"
# shellcheck disable=SC2086 # several options
[ -x "$given/bin/gpu_bench" ] || sh "$root/tests/gpu_build.sh" "$device" "$build" "$target" $options
build=$(cd "$build" && pwd)
: "${work:=$build/gpu-bench}"
mkdir -p "$work"
work=$(cd "$work" && pwd)
: "${csv:=$work/results.csv}"

bin=$build/bin
set -- --device "$device" --rounds "$rounds" --work "$work" --csv "$csv"
[ -z "$only" ] || set -- "$@" --only "$only"
# Tiny shapes need no large checkpoint.
[ -z "$quick" ] || set -- "$@" --quick --model "$root/tests/golden/checkpoints/nomic-moe"
if [ "$device" = emulated ]; then
    bin=$work/emulated/bin
    sh "$root/tests/gpu_build.sh" --links "$build" "$work/emulated"
fi
code=0
"$bin/gpu_bench" "$@" || code=$?
echo "results: $csv"
exit $code

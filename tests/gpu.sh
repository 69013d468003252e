#!/bin/sh
# Checks this library on a GPU: one line per check, a log of everything beside it.
set -eu

usage() {
    cat <<'EOF'
usage: sh tests/gpu.sh [OPTION]...

Checks this library on the GPUs of this machine, one line per check; builds what that takes with CMake
and nvcc unless --build names a build. Needs neither cmocka nor OpenBLAS, and no network. Without a GPU
it says so and does nothing.

what to check
  --only LIST      comma-separated names of --list (all)
  --minutes N      length of the soak, such as 0.5 (3)
  --list           print the names of the checks and what they are
  --device DEVICE  cuda, or emulated: the kernels compiled for the CPU, slow, to check the checks;
                   compute-sanitizer is left out (cuda)

how
  --build DIR      a build to use as it is; if it does not hold the checks they are built there
                   (build/gpu, brought up to date)
  --cmake OPTION   an option for CMake, such as -DXXHASH_INCLUDE_DIR=DIR; may be repeated
  --log DIR        where the output of each check goes (BUILD/gpu-log)
  -h, --help       print this text

examples
  sh tests/gpu.sh
  sh tests/gpu.sh --only kernels,forward,goldens
  sh tests/gpu.sh --only soak --minutes 60
EOF
}

list() {
    cat <<'EOF'
device     streams, events, graphs, memory and products of the device layer
kernels    every kernel against its reference, at edge shapes, in all types
forward    whole models against the CPU: every architecture and type, with n-gram tables
graphs     batches replayed from graphs have the bits of batches launched eagerly
async      calls in the background, vectors in device memory and in the order of a stream
goldens    the vectors of tests/golden
memcheck   compute-sanitizer: no kernel reads or writes outside of its arrays
racecheck  compute-sanitizer: no races in shared memory
initcheck  compute-sanitizer: nothing is read that was never written
soak       random batches for minutes: right vectors, no growth of memory
EOF
}

wrong() {
    echo "tests/gpu.sh: $1; see --help" >&2
    exit 2
}

names=$(list | cut -d' ' -f1 | tr '\n' ' ')
only=$names
minutes=3
device=cuda
build=""
options=""
log=""
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --list) list; exit 0 ;;
    --*=*)
        value=${1#*=}
        name=${1%%=*}
        shift
        set -- "$name" "$value" "$@" ;;
    esac
    case "$1" in
    --only | --minutes | --device | --build | --log | --cmake)
        [ $# -ge 2 ] || wrong "$1 needs a value" ;;
    *) wrong "unexpected argument '$1'" ;;
    esac
    case "$1" in
    --only) only=$(echo "$2" | tr ',' ' ') ;;
    --minutes) minutes=$2 ;;
    --device) device=$2 ;;
    --build) build=$2 ;;
    --log) log=$2 ;;
    --cmake) options="$options $2" ;;
    esac
    shift 2
done
for name in $only; do
    case " $names " in
    *" $name "*) ;;
    *) wrong "--only: expected some of $(echo "$names" | sed 's/ *$//; s/ /, /g'), found '$name'" ;;
    esac
done
case "$minutes" in
"" | . | *[!0-9.]* | *.*.*) wrong "--minutes: expected a number, found '$minutes'" ;;
esac
case "$device" in
cuda | emulated) ;;
*) wrong "--device: expected cuda or emulated, found '$device'" ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
given=$build
: "${build:=$root/build/gpu}"
if [ "$device" = cuda ] && ! sh "$root/tests/gpu_build.sh" --there; then
    echo "No GPU was tested: this machine has none that an NVIDIA driver answers for."
    exit 0
fi
suffix=""
[ "$device" = cuda ] || suffix=_emulated
# shellcheck disable=SC2086 # several options
[ -x "$given/bin/gpu_block$suffix" ] ||
    sh "$root/tests/gpu_build.sh" "$device" "$build" "gpu_checks$suffix" $options
build=$(cd "$build" && pwd)
: "${log:=$build/gpu-log}"
mkdir -p "$log"
log=$(cd "$log" && pwd)
cd "$root/tests" # the checks read golden/

bin=$build/bin
module=$build/lib/libembed_cuda.so
if [ "$device" = emulated ]; then
    sh "$root/tests/gpu_build.sh" --links "$build" "$log/emulated"
    bin=$log/emulated/bin
fi

passed=0
failed=0
skipped=0
report() { # report ok|FAILED|skipped WHAT
    case "$1" in
    ok) passed=$((passed + 1)) ;;
    FAILED) failed=$((failed + 1)) ;;
    skipped) skipped=$((skipped + 1)) ;;
    esac
    printf '%-8s %s\n' "$1" "$2"
}

# suite NAME PROGRAM ARGUMENT...: a program that prints one line a check and exits with 0 if all passed.
suite() {
    name=$1
    shift
    file=$log/$(echo "$name" | tr ' /' '--').log
    code=0
    "$@" >"$file" 2>&1 </dev/null || code=$?
    grep -E '^(ok|FAILED|skipped) ' "$file" >"$log/lines" || true
    failures=$failed
    found=0
    while read -r result what; do
        report "$result" "$name: $what"
        found=1
    done <"$log/lines"
    if [ "$failed" -eq "$failures" ] && { [ $code -ne 0 ] || [ $found -eq 0 ]; }; then
        report FAILED "$name: ended with status $code: $(tail -n 1 "$file")"
    fi
}

# whole NAME PROGRAM ARGUMENT...: the same as one check.
whole() {
    name=$1
    shift
    file=$log/$(echo "$name" | tr ' /' '--').log
    code=0
    "$@" >"$file" 2>&1 </dev/null || code=$?
    if [ $code -eq 0 ]; then
        report ok "$name"
    else
        report FAILED "$name: status $code, see $file"
    fi
}

ops="activation attention embed_lookup gemm gemm_sm90 gemm_tf32 layernorm moe_combine moe_exchange
    pool quantize router_topk row_copy counts block"
sanitized() { # sanitized TOOL
    if [ "$device" = emulated ]; then
        report skipped "$1: there is no GPU code to watch on the emulated device"
        return
    fi
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
    if [ -z "$sanitizer" ]; then
        report skipped "$1: compute-sanitizer is not installed"
        return
    fi
    for op in $ops; do
        whole "$1 $op" "$sanitizer" --tool "$1" --error-exitcode 9 "$bin/gpu_$op"
    done
    whole "$1 models" "$sanitizer" --tool "$1" --error-exitcode 9 "$bin/gpu_forward" narrow
}

for name in $only; do
    case "$name" in
    device)
        if [ "$device" = cuda ]; then
            suite device "$bin/gpu_device" "$module"
        else
            report skipped "device: its probe kernel is not in the emulated module"
        fi ;;
    kernels)
        for op in $ops; do
            suite "kernels/$op" "$bin/gpu_$op$suffix"
        done ;;
    forward) suite forward "$bin/gpu_forward" --device "$device" ;;
    graphs) suite graphs "$bin/gpu_forward" --device "$device" graphs ;;
    async) suite async "$bin/gpu_async$suffix" --device "$device" ;;
    goldens) suite goldens "$bin/gpu_golden" --device "$device" ;;
    memcheck | racecheck | initcheck) sanitized "$name" ;;
    soak) suite soak "$bin/gpu_soak" --device "$device" --minutes "$minutes" ;;
    esac
done
rm -f "$log/lines"
[ $skipped -eq 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

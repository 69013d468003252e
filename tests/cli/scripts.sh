#!/bin/sh
# usage: sh tests/cli/scripts.sh SOURCE_DIR
# The shell commands of the README explain themselves and refuse what they do not know.
here=$(cd "$(dirname "$0")" && pwd)
root=$1
. "$here/check.sh"

for script in examples/quickstart.sh examples/ngram_quickstart.sh examples/fetch_minilm.sh tests/run.sh \
    tests/gpu.sh bench/gpu.sh; do
    run 0 sh "$root/$script" --help
    said out "usage: sh $script"
    lines err 0
    run 0 sh "$root/$script" -h
    wrong "--colour" sh "$root/$script" --colour
    wrong "unexpected argument" sh "$root/$script" one two
done
wrong "expected a checkpoint directory" sh "$root/examples/quickstart.sh" "$work/missing"
wrong "--preset" sh "$root/tests/run.sh" --preset fast
wrong "--preset" sh "$root/tests/run.sh" --preset
wrong "--only: expected some of device, kernels" sh "$root/tests/gpu.sh" --only kernels,none
wrong "--minutes: expected a number" sh "$root/tests/gpu.sh" --minutes soon
wrong "--device: expected cuda or emulated" sh "$root/tests/gpu.sh" --device=cpu
run 0 sh "$root/tests/gpu.sh" --list
# A build whose programs fail: each in its own way, and all are counted.
mkdir -p build/bin build/emulated
: >build/emulated/libembed_emulated.so
stub() { # stub NAME COMMAND...
    printf '#!/bin/sh\n%s\n' "$2" >"build/bin/gpu_$1_emulated"
    chmod +x "build/bin/gpu_$1_emulated"
}
eval "$(sed -n '/^ops="/,/"$/p' "$root/tests/gpu.sh")"
others=-1
# shellcheck disable=SC2154 # ops
for op in $ops; do
    stub "$op" 'echo "ok       fine"'
    others=$((others + 1))
done
stub pool 'kill -9 $$'
run 1 sh "$root/tests/gpu.sh" --device emulated --build build --only kernels
said out "FAILED   kernels/pool: ended with status 137"
said out "$others passed, 1 failed"
stub pool 'echo "FAILED   rows: not equal"; exit 1'
run 1 sh "$root/tests/gpu.sh" --device emulated --build build --only kernels
said out "FAILED   kernels/pool: rows: not equal"
stub pool 'echo nothing'
run 1 sh "$root/tests/gpu.sh" --device emulated --build build --only kernels
stub pool 'echo "skipped  rows"'
run 0 sh "$root/tests/gpu.sh" --device emulated --build build --only kernels
said out "$others passed, 0 failed"
wrong "--only: expected some of limits, memory" sh "$root/bench/gpu.sh" --only speed
wrong "--rounds: expected 1 to 31" sh "$root/bench/gpu.sh" --rounds 0
wrong "--device emulated: it needs --quick" sh "$root/bench/gpu.sh" --device=emulated
passed

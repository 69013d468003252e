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
wrong "--only: expected some of limits, memory" sh "$root/bench/gpu.sh" --only speed
wrong "--rounds: expected 1 to 31" sh "$root/bench/gpu.sh" --rounds 0
wrong "--device emulated: it needs --quick" sh "$root/bench/gpu.sh" --device=emulated
passed

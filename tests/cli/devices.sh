#!/bin/sh
# usage: sh tests/cli/devices.sh EMBED
# The list of devices: the CPU is always there, and whatever cannot be used says why.
here=$(cd "$(dirname "$0")" && pwd)
embed=$1
. "$here/check.sh"

run 0 "$embed" devices --help
lines err 0
said out "usage: embed devices"
said out "examples"
wrong "unrecognized option '--colour'" "$embed" devices --colour
wrong "unexpected argument 'extra'" "$embed" devices extra

run 0 "$embed" devices
lines err 0
said out "cpu       usable"
[ "$(wc -l <out)" -ge 2 ] || failed "expected the CPU and a line about CUDA"
grep -q '^cuda' out || failed "expected a line about CUDA"
if ! grep -q '^cuda:' out; then
    grep -qE '^cuda +unusable  (no |.*driver|.*module)' out || failed "expected a reason"
fi

run 0 "$embed" devices --json
lines err 0
for key in device kind index usable reason name processors memory_total memory_free \
    capability_major capability_minor driver; do
    said out "\"$key\": "
done
said out '"device": "cpu"'
passed

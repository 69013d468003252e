#!/bin/sh
# usage: nvcc.sh LOG NVCC ARGUMENTS...
# Runs nvcc with its messages in LOG; shows them if it fails.
set -eu
log=$1
shift
"$@" >"$log.part" 2>&1 || { cat "$log.part"; exit 1; }
mv "$log.part" "$log"

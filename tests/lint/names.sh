#!/bin/sh
# usage: sh tests/lint/names.sh LIBEMBED_A
# The static library defines global names of ours only: embed_* and emb_*.
set -eu
symbols=$(nm --defined-only --extern-only "$1" | awk 'NF == 3 {print $3}')
[ -n "$symbols" ] || { echo "$1: no symbols found"; exit 1; }
foreign=$(echo "$symbols" | grep -vE '^(embed_|emb_)' || true)
if [ -n "$foreign" ]; then
    echo "$1: global names that start neither with embed_ nor with emb_:"
    echo "$foreign"
    exit 1
fi
echo "$(echo "$symbols" | wc -l) names"

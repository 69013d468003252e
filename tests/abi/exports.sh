#!/bin/sh
# usage: sh tests/abi/exports.sh LIBEMBED_SO
# The shared library exports exactly exports.txt, and the header declares exactly that.
set -eu
here=$(dirname "$0")
want=$here/exports.txt
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
nm -D --defined-only "$1" | awk '{print $3}' | sort >"$tmp/exported"
# Names right before the parenthesis of an EMBED_API declaration.
tr '\n' ' ' <"$here/../../include/embed.h" | grep -o 'EMBED_API [^;(]*(' |
    sed -n 's/.*[ *]\(embed_[a-z_]*\)($/\1/p' | sort >"$tmp/declared"
for list in exported declared; do
    diff -u "$want" "$tmp/$list" || { echo "names $list differ from $want"; exit 1; }
done
count=$(wc -l <"$want")
[ "$count" -gt 0 ] && [ "$count" -le 64 ] || { echo "$count calls, expected at most 64"; exit 1; }
echo "$count calls"

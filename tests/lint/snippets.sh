#!/bin/sh
# usage: sh tests/lint/snippets.sh CC
# The C that README.md and embed.h show compiles without a warning.
set -eu
cc=$1
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

awk '/^```c$/ {on = 1; next} /^```$/ {on = 0} on' README.md >"$work/readme.c"
{
    echo '#include <stdio.h>'
    echo '#include <embed.h>'
    echo 'int usage(void);'
    echo 'int usage(void) {'
    awk '/^ \*     embed_model \*model;/ {on = 1} on {sub(/^ \* ?/, ""); print}
         /^embed_model_free|^ *embed_model_free\(model\);$/ {exit}' include/embed.h
    echo 'return 0; }'
} >"$work/header.c"
for snippet in readme header; do
    grep -q embed_encode "$work/$snippet.c" || { echo "$snippet: no usage found"; exit 1; }
    "$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$work/$snippet.c"
done

#!/bin/sh
# usage: sh tests/abi/header.sh CC [CXX]
# embed.h alone, and the usage that its first comment shows, compile as strict C11 and as C++17.
set -eu
header=$(cd "$(dirname "$0")/../../include" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
{
    printf '#include "embed.h"\n#include <stdio.h>\nint main(void) {\n'
    sed -n '1,/CAVEATS/s/^ \*     //p' "$header/embed.h"
    printf 'return 0;\n}\n'
} >"$tmp/usage.c"
grep -q embed_encode "$tmp/usage.c" || { echo "no usage found in embed.h"; exit 1; }
cat >>"$tmp/usage.c" <<'END'
void defaults(void);
void defaults(void) {
    embed_model_params model = EMBED_MODEL_PARAMS_INIT;
    embed_context_params context = EMBED_CONTEXT_PARAMS_INIT;
    embed_encode_params encode = EMBED_ENCODE_PARAMS_INIT;
    embed_advise_params advise = EMBED_ADVISE_PARAMS_INIT;
    embed_async_params async = EMBED_ASYNC_PARAMS_INIT;
    (void)async;
    (void)advise;
    (void)model;
    (void)context;
    (void)encode;
}
END
cp "$tmp/usage.c" "$tmp/usage.cpp"
warnings='-Wall -Wextra -Wpedantic -Werror'
# shellcheck disable=SC2086
"$1" -std=c11 $warnings -Wstrict-prototypes -I"$header" -fsyntax-only "$tmp/usage.c"
if [ $# -gt 1 ]; then
    # shellcheck disable=SC2086
    "$2" -std=c++17 $warnings -I"$header" -fsyntax-only "$tmp/usage.cpp"
fi
echo "compiles"

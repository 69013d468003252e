#!/bin/sh
# usage: sh tests/lint/layers.sh
# Calls and includes go down only (src/README.md): every #include "room/file.h" in src/ and kernels/
# must be one of the edges below. A room may include itself and the public embed.h.
set -eu
cd "$(dirname "$0")/../.."

# shellcheck disable=SC2016 # $0 is awk's
find src kernels \( -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' \) ! -path 'src/third_party/*' | sort | xargs awk '
BEGIN {
    allowed["api"] = " model device ngram tokenizer io kernels base "
    allowed["model"] = " device ngram tokenizer io kernels base "
    allowed["ngram"] = " io kernels base "
    allowed["tokenizer"] = " io base third_party "
    allowed["io"] = " base third_party "
    allowed["kernels"] = " base "
    allowed["device"] = " base "
    allowed["cuda_module"] = " device kernels "
    allowed["emulation"] = " cuda_module device kernels base "
    allowed["base"] = " "
}
FNR == 1 {
    split(FILENAME, part, "/")
    room = part[1] == "src" ? part[2] : part[1]
    files++
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    if (quoted[2] == "embed.h")
        next
    if (quoted[2] !~ /\//) {
        printf "%s:%d: expected \"room/file.h\", found \"%s\"\n", FILENAME, FNR, quoted[2]
        wrong++
        next
    }
    split(quoted[2], target, "/")
    if (target[1] != room && index(allowed[room], " " target[1] " ") == 0) {
        printf "%s:%d: %s may not include %s\n", FILENAME, FNR, room, quoted[2]
        wrong++
    }
}
END {
    if (!files) {
        print "no sources found"
        wrong++
    }
    printf "%d files, %d wrong includes\n", files, wrong
    exit wrong > 0
}'

#!/bin/sh
# usage: sh tests/lint/format.sh
# Every C and C++ file of ours is as clang-format 14 leaves it. Exits 77, skipped, without it.
set -eu
cd "$(dirname "$0")/../.."

for tool in clang-format-14 clang-format; do
    case "$($tool --version 2>/dev/null || true)" in
    *"version 14."*)
        find include src kernels tests bench examples -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' |
            grep -v '^src/third_party/' | sort | xargs "$tool" --dry-run -Werror
        exit 0 ;;
    esac
done
echo "clang-format 14 is not installed"
exit 77

#!/bin/sh
# usage: sh tests/lint/sources.sh
# Limits a reader relies on: files under 600 lines (embed.h apart, which is the manual) and functions under 80, examples under 100, source
# basenames unique, no work left open, no file that the top level does not have.
set -eu
cd "$(dirname "$0")/../.."
wrong=0
report() { # report HEADLINE LINES
    [ -n "$2" ] || return 0
    printf '%s\n%s\n' "$1" "$2"
    wrong=1
}

ours=$(find src kernels include examples bench tests -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' |
    grep -v '^src/third_party/' | sort)
[ -n "$ours" ] || { echo "no sources found"; exit 1; }

# shellcheck disable=SC2086
report "Files of 600 lines or more, each probably two concepts:" \
    "$(wc -l $ours | awk '$2 != "total" && $2 != "include/embed.h" && $1 >= 600')"
examples=$(echo "$ours" | grep '^examples/[^/]*$'; find examples -maxdepth 1 -name '*.py')
# shellcheck disable=SC2086
report "Examples of 100 lines or more:" "$(wc -l $examples | awk '$2 != "total" && $1 >= 100')"
# A function starts in column 1 with a line that ends in { and ends with a } in column 1.
# shellcheck disable=SC2086
report "Functions of 80 lines or more:" "$(awk '
    /^[A-Za-z_].*\) \{$/ { start = FNR; name = $0 }
    /^}/ && start { if (FNR - start + 1 >= 80) print FILENAME ":" start ": " FNR - start + 1 \
                    " lines: " name; start = 0 }' $ours)"
report "Basenames that occur twice:" \
    "$(echo "$ours" | sed 's|.*/||' | sort | uniq -d)"
# shellcheck disable=SC2086
report "Left open:" "$(grep -nE '\b(TODO|FIXME|XXX|HACK)\b' $ours || true)"
if git rev-parse --git-dir >/dev/null 2>&1; then
    report "Outside the agreed top level:" "$(git ls-files | sed 's|/.*||' | sort -u | grep -vxE \
        'CMakeLists.txt|CMakePresets.json|LICENSE|README.md|include|src|kernels|tests|bench|examples|\..*' ||
        true)"
fi
exit $wrong

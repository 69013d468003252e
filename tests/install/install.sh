#!/bin/sh
# usage: sh tests/install/install.sh BUILD_DIR VERSION
# Installs a build into a temporary tree, moves the tree, and builds and runs a separate project
# against it through find_package and through pkg-config, shared and static.
set -eu
build=$1
version=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "install: $1" >&2
    exit 1
}

cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/tree"
tree=$work/tree
[ -f "$tree/include/embed.h" ] || fail "include/embed.h is missing"
[ -x "$tree/bin/embed" ] || fail "bin/embed is missing"
libdir=$(dirname "$(find "$tree" -name libembed.a)")
soname=$(objdump -p "$libdir/libembed.so" | awk '$1 == "SONAME" {print $2}')
[ "$soname" = "libembed.so.${version%%.*}" ] || fail "SONAME: found '$soname'"
[ -e "$libdir/$soname" ] || fail "$soname is missing"
export LD_LIBRARY_PATH="$libdir"

run() { # run PROGRAM WHAT: must exit 0 and print the version
    out=$("$1") || fail "$2: exit status $? and '$out'"
    case "$out" in
    [0-9]*" EMBED_ERR_"*) ;;
    *) fail "$2: printed '$out'" ;;
    esac
    echo "$2: $out"
}

cmake -S "$here/consumer" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$tree" \
    -DEXPECTED_VERSION="$version" >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package"; }
cmake --build "$work/cmake" >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package, build"; }
for program in c_embed c_embed_static cxx_embed cxx_embed_static; do
    run "$work/cmake/$program" "find_package $program"
done

export PKG_CONFIG_PATH="$libdir/pkgconfig"
[ "$(pkg-config --modversion embed)" = "$version" ] || fail "pkg-config --modversion"
# Flags are words to split.
# shellcheck disable=SC2046
{
    cc "$here/consumer/consumer.c" -o "$work/shared" $(pkg-config --cflags --libs embed)
    cc "$here/consumer/consumer.c" -DEMBED_STATIC -o "$work/static" $(pkg-config --cflags embed) \
        "$libdir/libembed.a" $(pkg-config --static --libs embed | tr ' ' '\n' | grep -v '^-lembed$')
}
run "$work/shared" "pkg-config shared"
run "$work/static" "pkg-config static"
ldd "$work/static" | grep -q libembed && fail "the static program needs libembed.so"
ldd "$work/shared" | grep -q "$soname" || fail "the shared program does not use $soname"
echo "install: passed"

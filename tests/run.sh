#!/bin/sh
# Installs what is missing, builds, and runs all tests.
set -eu

usage() {
    cat <<'END'
usage: sh tests/run.sh [OPTION]... [-- CTEST_OPTION...]

Installs what is missing, builds the library and runs its tests.

run
  --preset NAME  release, debug, clang, emulation, asan or tsan (release)
  --long         also the tests that take minutes
  --no-model     do not fetch all-MiniLM-L6-v2; tests of a real model are then skipped
  -h, --help     print this text

examples
  sh tests/run.sh
  sh tests/run.sh --preset asan -- -R tokenizer --verbose
END
}

wrong() {
    echo "tests/run.sh: $1; see --help" >&2
    exit 2
}

preset=release
model=1
exclude="-LE long"
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --preset)
        [ $# -ge 2 ] || wrong "--preset needs a name"
        preset=$2
        shift ;;
    --preset=*) preset=${1#--preset=} ;;
    --long) exclude="" ;;
    --no-model) model=0 ;;
    --) shift; break ;;
    *) wrong "unexpected argument '$1'" ;;
    esac
    shift
done
case "$preset" in
release | debug | clang | emulation | asan | tsan) ;;
*) wrong "--preset: expected release, debug, clang, emulation, asan or tsan, found '$preset'" ;;
esac

cd "$(dirname "$0")/.."
case "$preset" in
clang) sh examples/install_packages.sh clang ;;
*) sh examples/install_packages.sh clang-format-14 ;;
esac
if [ $model -eq 1 ]; then
    sh examples/fetch_minilm.sh ||
        echo "tests/run.sh: all-MiniLM-L6-v2 could not be fetched; its tests will be skipped" >&2
    sh examples/make_venv.sh numpy ||
        echo "tests/run.sh: numpy could not be installed; its tests will be skipped" >&2
fi

cmake --preset "$preset"
cmake --build --preset "$preset"
# shellcheck disable=SC2086
ctest --preset "$preset" -j "$(nproc)" $exclude "$@"

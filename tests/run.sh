#!/bin/sh
# Build and run all tests.
set -eu
cd "$(dirname "$0")/.."
cmake --preset release
cmake --build --preset release
ctest --preset release

#!/bin/sh
# usage: sh examples/make_venv.sh [PACKAGE...]
# Makes the private Python environment build/venv and installs those of the Python packages that it
# lacks, saying so; does nothing if all are there.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/build/venv

if [ ! -x "$venv/bin/pip" ]; then
    sh "$root/examples/install_packages.sh" python3 python3-venv ca-certificates
    echo "Making a private Python environment: build/venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
fi
missing=""
for package in "$@"; do
    "$venv/bin/pip" show -q "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "Installing with pip into build/venv:$missing" >&2
# shellcheck disable=SC2086
"$venv/bin/pip" install -q --disable-pip-version-check --no-input $missing >&2

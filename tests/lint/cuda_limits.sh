#!/bin/sh
# usage: sh tests/lint/cuda_limits.sh LOG...
# Each kernel that nvcc compiled (its -Xptxas -v messages are in the logs) keeps to the first line of
# kernels/cuda/limits.txt that fits its name, on every architecture; each line there fits a kernel.
set -eu
table=$(dirname "$0")/../../kernels/cuda/limits.txt
cat "$@" | c++filt | awk -v table="$table" '
BEGIN {
    while ((getline line < table) > 0) {
        if (line ~ /^#/ || line == "")
            continue
        n++
        split(line, field, " ")
        registers[n] = field[1]
        spills[n] = field[2]
        pattern[n] = line
        sub(/^[0-9]+ +[0-9]+ +/, "", pattern[n])
    }
    if (n == 0) {
        print table ": no limits found"
        wrong++
    }
}
/Compiling entry function/ {
    name = $0
    sub(/.*Compiling entry function ./, "", name)
    architecture = name
    sub(/.*for .sm_/, "sm_", architecture)
    gsub(/[^a-z0-9_]/, "", architecture)
    gsub(/\(anonymous namespace\)::/, "", name)
    sub(/\([^()]*\). for .*/, "", name)
    sub(/^void /, "", name)
    line = 0
    for (i = 1; i <= n && !line; i++)
        if (name ~ pattern[i])
            line = i
    used[line] = 1
    kernels++
    if (!line) {
        print name ": no line of limits.txt fits"
        wrong++
    }
}
/bytes spill stores/ {
    spilled = 0
    for (i = 2; i <= NF; i++)
        if ($i == "bytes" && $(i + 1) == "spill")
            spilled += $(i - 1)
    if (line && spilled > spills[line]) {
        print name " " architecture ": spills " spilled " bytes, allowed are " spills[line]
        wrong++
    }
}
/Used [0-9]+ registers/ {
    count = $0
    sub(/.*Used /, "", count)
    sub(/ .*/, "", count)
    if (line && count + 0 > registers[line]) {
        print name " " architecture ": " count " registers, allowed are " registers[line]
        wrong++
    }
    if (count + 0 > most[line])
        most[line] = count + 0
}
END {
    for (i = 1; i <= n; i++)
        if (!used[i]) {
            print "limits.txt: no kernel fits " pattern[i]
            wrong++
        } else
            printf "%4d of %4d registers: %s\n", most[i], registers[i], pattern[i]
    printf "%d kernels, %d wrong\n", kernels, wrong
    exit wrong > 0 || kernels == 0
}'

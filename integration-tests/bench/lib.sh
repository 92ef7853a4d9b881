# shellcheck shell=bash
# How to measure: sourced by run. Results of a measurement are kept in $work/NAME.tsv, one column a command.

bin=$WHARF_BIN_DIR
rounds=${BENCH_ROUNDS:-40}
# of what takes seconds each time
few=$((rounds < 15 ? rounds : 15))
work=$(mktemp -d /tmp/whb.XXXXXX)
pids=()

# finish: ends what was started and removes what was made
finish() {
    local pid cg
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    grep -o " $work[^ ]*" /proc/self/mountinfo | sort -r | xargs -r umount -l || true
    for cg in /sys/fs/cgroup/*/wharf-bench; do [ ! -d "$cg" ] || find "$cg" -depth -type d -exec rmdir {} + || true; done
    rm -rf "$work"
}

# paired NAME COMMAND-A COMMAND-B…: alternating rounds; medians in milliseconds to $work/NAME.tsv
paired() { alternate "$1" "$rounds" "" "${@:2}"; }

# paired_with NAME ROUNDS PREPARE COMMAND…: the same, with PREPARE (a shell command, or nothing) run uncounted before each command
paired_with() { alternate "$@"; }

alternate() {
    local name=$1 count=$2 prepare=$3
    shift 3
    local round options=()
    [ -z "$prepare" ] || options=(--prepare "$prepare")
    : >"$work/$name.raw"
    for round in $(seq 0 "$count"); do
        hyperfine -N --runs 1 --style none "${options[@]}" --export-json "$work/one.json" "$@" >/dev/null 2>"$work/err" ||
            { cat "$work/err" >&2; return 1; }
        # the first round warms up
        [ "$round" = 0 ] || jq -r '[.results[].times[0]] | @tsv' "$work/one.json" >>"$work/$name.raw"
    done
    jq -R -s -r --argjson n "$#" '
        [split("\n")[] | select(. != "") | split("\t") | map(tonumber)] as $rows
        | [range($n) as $c | [$rows[][$c]] | sort | (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2 * 1000] | @tsv
    ' "$work/$name.raw" >"$work/$name.tsv"
}

# row NAME A B: the cells of columns A and B of a measurement, and their ratio
row() { awk -F'\t' -v a="$2" -v b="$3" '{printf "%.1f ms | %.1f ms | %.2f", $a, $b, $a/$b}' "$work/$1.tsv"; }

await() { # SECONDS COMMAND...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "bench: timed out: $*" >&2; tail -5 "$work"/*.log >&2; return 1; }
        sleep 0.05
    done
}

# memory PID: RSS and PSS in KiB
memory() { awk '/^Rss:/{r=$2} /^Pss:/{p=$2} END{print r, p}' "/proc/$1/smaps_rollup"; }

# memory_row NAME PID NAME PID: a row of a table with RSS and PSS of both, and the ratios
memory_row() {
    local ar ap br bp
    read -r ar ap <<<"$(memory "$2")"
    read -r br bp <<<"$(memory "$4")"
    awk -v n="$1" -v m="$3" -v ar="$ar" -v ap="$ap" -v br="$br" -v bp="$bp" 'BEGIN {
        printf "| %s | %s | %.1f / %.1f MB | %.1f / %.1f MB | %.2f / %.2f |\n", n, m, ar/1024, ap/1024, br/1024, bp/1024, ar/br, ap/bp }'
}

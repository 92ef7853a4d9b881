# shellcheck shell=bash
# wharf-lifecycled beside containerd (the one that dockerd started), each spoken to by containerd's own client: sourced by run.

lifecycle() {
    daemons
    local wharf="ctr -a $lifecycle_socket -n wharf-bench" peer="ctr -a $containerd_socket -n wharf-bench" rootfs=$work/bundle/rootfs
    mkdir -p "$rootfs/bin" "$rootfs/proc" "$rootfs/dev" "$rootfs/sys"
    cp /bin/busybox "$rootfs/bin/true"
    paired ctr \
        "$wharf run --rm --runtime io.containerd.wharf.v2 --rootfs $rootfs one /bin/true" \
        "$peer run --rm --rootfs $rootfs one /bin/true"
    echo
    echo "## The lifecycle daemon, through \`ctr\`"
    echo
    echo "| Work | wharf-lifecycled | containerd | Ratio |"
    echo "|---|---|---|---|"
    echo "| \`ctr run --rm --rootfs\` of true | $(row ctr 1 2) |"
    lifecycle_content
    lifecycle_tasks
}

# lifecycle_content: rows on content, snapshots, pull and push
lifecycle_content() { :; }

# lifecycle_tasks: rows on tasks and shims; the variables are those of lifecycle
lifecycle_tasks() {
    local callers=$work/callers client=$bin/../examples/tasks ours theirs
    # each caller has its containers one after another: what is measured is how they get in each other's way
    cat >"$callers" <<'SCRIPT'
#!/bin/bash
# callers NAME COMMAND…: eight callers, four containers each
name=$1
shift
caller() { for i in 1 2 3 4; do "${@:2}" "$name-$1-$i" /bin/true || exit 1; done; }
for c in 1 2 3 4 5 6 7 8; do
    caller "$c" "$@" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
SCRIPT
    chmod +x "$callers"
    paired_with callers "$few" "" \
        "$callers w $wharf run --rm --null-io --runtime io.containerd.wharf.v2 --rootfs $rootfs" \
        "$callers c $peer run --rm --null-io --rootfs $rootfs"
    echo "| 32 × create, start, wait, delete, by eight callers of \`ctr run --rm\` ($few rounds) | $(row callers 1 2) |"

    mkdir -p "$work/spec"
    (cd "$work/spec" && runc spec)
    jq --arg rootfs "$rootfs" '.process.terminal = false | .process.args = ["/bin/true"] | .root.path = $rootfs
        | .linux.cgroupsPath = "/wharf-bench/{}"' "$work/spec/config.json" >"$work/task.json"
    jq '.process.args = ["/bin/busybox", "sleep", "10000"]' "$work/task.json" >"$work/idle.json"
    cp /bin/busybox "$rootfs/bin/busybox"
    ours=("$client" "$lifecycle_socket" wharf-tasks) theirs=("$client" "$containerd_socket" wharf-tasks)
    paired lives "${ours[*]} io.containerd.wharf.v2 $work/task.json 8 40" "${theirs[*]} io.containerd.runc.v2 $work/task.json 8 40"
    echo "| 40 × the same, by eight callers of one client that is connected already | $(row lives 1 2) |"

    "${ours[@]}" io.containerd.wharf.v2 "$work/idle.json" keep 40
    "${theirs[@]}" io.containerd.runc.v2 "$work/idle.json" keep 40
    shims_row containerd-shim-wharf-v2 containerd-shim-runc-v2
    "${theirs[@]}" remove
    "${ours[@]}" remove
    "${ours[@]}" io.containerd.wharf.v2 "$work/idle.json" keep 500
    echo "| memory of the daemon with 500 containers (RSS / PSS) | $(memory "$lifecycled" | awk '{printf "%.1f / %.1f MB", $1/1024, $2/1024}') | | |"
    "${ours[@]}" remove
}

# shims_row OURS THEIRS: means of resident memory over all shims of the namespace of lifecycle_tasks
shims_row() {
    local name pid cells=() r p
    for name in "$1" "$2"; do
        cells+=("$(for pid in $(pgrep -f "^[^ ]*$name .*wharf-tasks"); do memory "$pid"; done |
            awk '{r += $1; p += $2} END {printf "%.2f %.2f %d", r/NR/1024, p/NR/1024, NR}')")
    done
    awk -v a="${cells[0]}" -v b="${cells[1]}" 'BEGIN { split(a, x, " "); split(b, y, " ")
        printf "| memory of a shim among %d (RSS / PSS, means) | %.2f / %.2f MB | %.2f / %.2f MB | %.2f / %.2f |\n",
            x[3], x[1], x[2], y[1], y[2], x[1]/y[1], x[2]/y[2] }'
}

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
    local callers=$work/callers
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
    paired_with callers 15 "" \
        "$callers w $wharf run --rm --null-io --runtime io.containerd.wharf.v2 --rootfs $rootfs" \
        "$callers c $peer run --rm --null-io --rootfs $rootfs"
    echo "| 32 × create, start, wait, delete, by eight callers of \`ctr run --rm\` | $(row callers 1 2) |"
}

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

# lifecycle_tasks: rows on tasks and shims
lifecycle_tasks() { :; }

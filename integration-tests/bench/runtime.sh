# shellcheck shell=bash
# The OCI runtimes on one bundle: sourced by run.

runtime() {
    local bundle=$work/bundle commands has_crun= floor
    mkdir -p "$bundle/rootfs/bin" "$bundle/rootfs/proc" "$bundle/rootfs/dev" "$bundle/rootfs/sys"
    cp /bin/busybox "$bundle/rootfs/bin/true"
    (cd "$bundle" && runc spec)
    jq '.process.terminal = false | .process.args = ["/bin/true"] | .linux.cgroupsPath = "/wharf-bench/one"' \
        "$bundle/config.json" >"$bundle/c" && mv "$bundle/c" "$bundle/config.json"
    commands=("$bin/runw --root $work/rw run --bundle $bundle b1" "runc --root $work/rc run --bundle $bundle b2")
    if crun --root "$work/cr" run --bundle "$bundle" b3 >/dev/null 2>"$work/crun.err"; then
        has_crun=1
        commands+=("crun --root $work/cr run --bundle $bundle b3")
    fi
    paired runtime "${commands[@]}" "unshare --mount --pid --net --ipc --uts --cgroup --fork $bundle/rootfs/bin/true"
    floor=$((${#commands[@]} + 1))
    echo
    echo "## The OCI runtime: \`run\` of \`true\`, one bundle"
    echo
    echo "| Wharf | Beside | Wharf | Beside | Ratio |"
    echo "|---|---|---|---|---|"
    echo "| runw | runc | $(row runtime 1 2) |"
    if [ -n "$has_crun" ]; then
        echo "| runw | crun | $(row runtime 1 3) |"
    else
        echo "| runw | crun | | it refuses: $(tail -1 "$work/crun.err" | tr '|' '/') | |"
    fi
    echo "| runw | unshare of all namespaces | $(row runtime 1 $floor) |"
}

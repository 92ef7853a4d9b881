# shellcheck shell=bash
# The OCI runtimes on one bundle: sourced by run.

runtime() {
    local bundle=$work/bundle commands has_crun= floor
    mkdir -p "$bundle/rootfs/bin" "$bundle/rootfs/proc" "$bundle/rootfs/dev" "$bundle/rootfs/sys"
    cp /bin/busybox "$bundle/rootfs/bin/true"
    ln "$bundle/rootfs/bin/true" "$bundle/rootfs/bin/sleep"
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
    runtime_seccomp "$bundle"

    echo
    echo "## The OCI runtime: more"
    echo
    echo "| Work | runw | runc | Ratio |"
    echo "|---|---|---|---|"
    echo "| \`run\` of true with Docker's default seccomp profile | $(row seccomp 1 2) |"
    echo "| what the profile adds to \`run\` | $(row seccomp 1 3 | awk -F' ' '{printf "%.1f ms", $1 - $4}') | $(row seccomp 2 4 | awk -F' ' '{printf "%.1f ms", $1 - $4}') | |"
    runtime_exec "$bundle"
    runtime_many "$bundle"
    runtime_memory "$bundle"
    paired start "$bin/runw --version" "runc --version"
    echo "| start of the binary (\`--version\`) | $(row start 1 2) |"
}

# variant NAME JQ: a bundle beside the first one on the same root filesystem, with its config changed
variant() {
    mkdir -p "$work/$1"
    jq --arg rootfs "$work/bundle/rootfs" ".root.path = \$rootfs | $2" "$work/bundle/config.json" >"$work/$1/config.json"
}

# the profile is taken from a container that dockerd runs
runtime_seccomp() {
    local bundle=$1 id
    daemons
    id=$(docker -H "$docker_host" run -d --network none bench sleep 1000)
    jq .linux.seccomp "$work/dx/containerd/daemon/io.containerd.runtime.v2.task/moby/$id/config.json" >"$work/profile.json"
    docker -H "$docker_host" rm -f "$id" >/dev/null
    [ "$(jq '.syscalls | length' "$work/profile.json")" -gt 0 ]
    variant filtered ".linux.seccomp = $(cat "$work/profile.json")"
    paired seccomp "$bin/runw --root $work/rw run --bundle $work/filtered s1" "runc --root $work/rc run --bundle $work/filtered s2" \
        "$bin/runw --root $work/rw run --bundle $bundle s3" "runc --root $work/rc run --bundle $bundle s4"
}

runtime_exec() {
    variant box '.process.args = ["/bin/sleep", "1000"] | .linux.cgroupsPath = "/wharf-bench/box1"'
    "$bin/runw" --root "$work/rw" run --detach --bundle "$work/box" box </dev/null >/dev/null 2>&1
    variant box '.process.args = ["/bin/sleep", "1000"] | .linux.cgroupsPath = "/wharf-bench/box2"'
    runc --root "$work/rc" run --detach --bundle "$work/box" box </dev/null >/dev/null 2>&1
    paired oci_exec "$bin/runw --root $work/rw exec box /bin/true" "runc --root $work/rc exec box /bin/true"
    "$bin/runw" --root "$work/rw" delete --force box
    runc --root "$work/rc" delete --force box
    echo "| \`exec\` of true into a running container | $(row oci_exec 1 2) |"
}

# 200 containers made, started and deleted by 8 callers at once; every container has a bundle and a cgroup of its own
runtime_many() {
    local i runtime
    for i in $(seq 200); do variant "many/$i" ".linux.cgroupsPath = \"/wharf-bench/many$i\""; done
    cat >"$work/one-of-many" <<'SCRIPT'
#!/bin/sh
# RUNTIME ROOT BUNDLES N
set -e
"$1" --root "$2" create --bundle "$3/$4" "many$4" </dev/null >/dev/null 2>&1
"$1" --root "$2" start "many$4"
"$1" --root "$2" delete --force "many$4"
SCRIPT
    cat >"$work/many-of-them" <<'SCRIPT'
#!/bin/sh
# SCRIPT RUNTIME ROOT BUNDLES
seq 200 | xargs -P 8 -n 1 "$1" "$2" "$3" "$4"
SCRIPT
    chmod +x "$work/one-of-many" "$work/many-of-them"
    paired_with many 3 "" "$work/many-of-them $work/one-of-many $bin/runw $work/rw $work/many" \
        "$work/many-of-them $work/one-of-many runc $work/rc $work/many"
    echo "| 200 containers created, started, deleted by 8 callers (3 rounds) | $(row many 1 2) |"
}

# peak_create RUNTIME ROOT ID: the largest resident set of any process of one create, in KiB
peak_create() {
    /usr/bin/time -q -f %M -o "$work/peak" "$1" --root "$2" create --bundle "$work/bundle" "$3" </dev/null >/dev/null 2>"$work/err" ||
        { cat "$work/err" >&2; return 1; }
    "$1" --root "$2" delete --force "$3"
    tail -1 "$work/peak"
}

runtime_memory() {
    local ours theirs crun_peak
    ours=$(peak_create "$bin/runw" "$work/rw" p1)
    theirs=$(peak_create runc "$work/rc" p2)
    awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "| peak memory of `create` | %.1f MB | %.1f MB | %.2f |\n", a/1024, b/1024, a/b }'
    if crun_peak=$(peak_create crun "$work/cr" p3 2>/dev/null); then
        awk -v a="$ours" -v b="$crun_peak" 'BEGIN { printf "| peak memory of `create`, beside crun | %.1f MB | %.1f MB | %.2f |\n", a/1024, b/1024, a/b }'
    fi
    variant tight '.linux.resources.memory = {"limit": 524288} | .linux.cgroupsPath = "/wharf-bench/tight"'
    starts() { if "$1" --root "$2" run --bundle "$work/tight" "$3" >/dev/null 2>&1; then echo starts; else "$1" --root "$2" delete --force "$3" >/dev/null 2>&1; echo fails; fi; }
    echo "| a container limited to 512 KiB of memory | $(starts "$bin/runw" "$work/rw" t1) | $(starts runc "$work/rc" t2) | |"
}

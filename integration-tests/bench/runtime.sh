# shellcheck shell=bash
# The OCI runtimes on one bundle: sourced by run.

runtime() {
    local bundle=$work/bundle
    mkdir -p "$bundle/rootfs/bin" "$bundle/rootfs/proc" "$bundle/rootfs/dev" "$bundle/rootfs/sys"
    cp /bin/busybox "$bundle/rootfs/bin/true"
    ln "$bundle/rootfs/bin/true" "$bundle/rootfs/bin/sleep"
    (cd "$bundle" && runc spec)
    # ambient capabilities, which runc's example asks for without the inheritable ones they need, are a warning each
    jq 'del(.process.capabilities.ambient) | .process.terminal = false | .process.args = ["/bin/true"] | .linux.cgroupsPath = "/wharf-bench/one"' \
        "$bundle/config.json" >"$bundle/c" && mv "$bundle/c" "$bundle/config.json"
    paired runtime "$bin/runw --root $work/rw run --bundle $bundle b1" "runc --root $work/rc run --bundle $bundle b2" \
        "unshare --mount --pid --net --ipc --uts --cgroup --fork $bundle/rootfs/bin/true"
    # crun refuses hybrid cgroups: all of them once more where nothing but version 2 is mounted, which then has no controllers
    variant unlimited 'del(.linux.cgroupsPath, .linux.resources)'
    on_v2 paired runtime_v2 "$bin/runw --root $work/rw run --bundle $work/unlimited v1" \
        "crun --root $work/cr run --bundle $work/unlimited v2" "runc --root $work/rc run --bundle $work/unlimited v3"
    echo
    echo "## The OCI runtime: \`run\` of \`true\`, one bundle"
    echo
    echo "| Wharf | Beside | Wharf | Beside | Ratio |"
    echo "|---|---|---|---|---|"
    echo "| runw | runc | $(row runtime 1 2) |"
    echo "| runw | unshare of all namespaces | $(row runtime 1 3) |"
    echo "| runw, with cgroup v2 alone and no limits | crun, likewise | $(row runtime_v2 1 2) |"
    echo "| runw, with cgroup v2 alone and no limits | runc, likewise | $(row runtime_v2 1 3) |"
    runtime_seccomp "$bundle"

    echo
    echo "## The OCI runtime: more"
    echo
    echo "| Work | runw | runc | Ratio |"
    echo "|---|---|---|---|"
    echo "| \`run\` of true with Docker's default seccomp profile | $(row seccomp 1 2) |"
    echo "| what the profile adds to \`run\` | $(row seccomp 1 3 | awk -F' ' '{printf "%.1f ms", $1 - $4}') | $(row seccomp 2 4 | awk -F' ' '{printf "%.1f ms", $1 - $4}') | |"
    runtime_calls
    runtime_exec "$bundle"
    runtime_many "$bundle"
    runtime_memory "$bundle"
    paired start "$bin/runw --version" "runc --version"
    echo "| start of the binary (\`--version\`) | $(row start 1 2) |"
}

# on_v2 FUNCTION ARGUMENT…: one of the functions exported below, in a mount namespace where /sys/fs/cgroup is version 2
on_v2() {
    unshare --mount --propagation private bash -euc 'mount -t cgroup2 none /sys/fs/cgroup && "$@"' bash "$@"
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

# what a system call costs in a container with the profile: one that it allows whatever its arguments, and one that it allows by them
runtime_calls() {
    local profile round call
    cp "$bin/wharf-test-workload" "$work/bundle/rootfs/bin/workload"
    for profile in filtered bundle; do
        jq --arg rootfs "$work/bundle/rootfs" '.root.path = $rootfs | .process.args = ["/bin/workload", "calls", "200000"]' \
            "$work/$profile/config.json" >"$work/c"
        mkdir -p "$work/calls-$profile"
        mv "$work/c" "$work/calls-$profile/config.json"
    done
    for round in $(seq "$few"); do
        "$bin/runw" --root "$work/rw" run --bundle "$work/calls-filtered" "k$round" >"$work/k1"
        runc --root "$work/rc" run --bundle "$work/calls-filtered" "k$round" >"$work/k2"
        "$bin/runw" --root "$work/rw" run --bundle "$work/calls-bundle" "k$round" >"$work/k3"
        paste "$work/k1" "$work/k2" "$work/k3" >"$work/k"
        head -1 "$work/k" >>"$work/call1"
        tail -1 "$work/k" >>"$work/call2"
    done
    for call in "1 getppid" "2 personality"; do
        median() { cut -f"$1" "$work/call${call%% *}" | sort -n | sed -n "$(((few + 1) / 2))p"; }
        awk -v n="${call##* }" -v a="$(median 1)" -v b="$(median 2)" -v c="$(median 3)" 'BEGIN {
            printf "| a `%s` under the profile (%.0f ns without) | %.0f ns | %.0f ns | %.2f |\n", n, c, a, b, a/b }'
    done
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
    local i
    for i in $(seq 0 199); do variant "many/$i" ".linux.cgroupsPath = \"/wharf-bench/many$i\""; done
    local w="--root $work/rw" c="--root $work/rc"
    paired_with many "$few" "" \
        "$bin/wharf-test-workload callers 8 200 '$bin/runw $w create --bundle $work/many/{} many{}' '$bin/runw $w start many{}' '$bin/runw $w delete --force many{}'" \
        "$bin/wharf-test-workload callers 8 200 'runc $c create --bundle $work/many/{} many{}' 'runc $c start many{}' 'runc $c delete --force many{}'"
    echo "| 200 containers created, started, deleted by 8 callers ($few rounds) | $(row many 1 2) |"
}

# peak_create RUNTIME ROOT ID: the largest resident set of any process of one create, in KiB
peak_create() {
    /usr/bin/time -q -f %M -o "$work/peak" "$1" --root "$2" create --bundle "$work/unlimited" "$3" </dev/null >/dev/null 2>"$work/err" ||
        { cat "$work/err" >&2; return 1; }
    "$1" --root "$2" delete --force "$3"
    tail -1 "$work/peak"
}

runtime_memory() {
    local ours theirs
    memory_cells() { awk -v n="$1" -v a="$2" -v b="$3" 'BEGIN { printf "| %s | %.1f MB | %.1f MB | %.2f |\n", n, a/1024, b/1024, a/b }'; }
    ours=$(peak_create "$bin/runw" "$work/rw" p1)
    theirs=$(peak_create runc "$work/rc" p2)
    memory_cells "peak memory of \`create\`" "$ours" "$theirs"
    ours=$(on_v2 peak_create "$bin/runw" "$work/rw" p3)
    theirs=$(on_v2 peak_create crun "$work/cr" p4)
    memory_cells "the same on cgroup v2 alone, beside crun" "$ours" "$theirs"
    variant tight '.linux.resources.memory = {"limit": 524288} | .linux.cgroupsPath = "/wharf-bench/tight"'
    starts() { if "$1" --root "$2" run --bundle "$work/tight" "$3" >/dev/null 2>&1; then echo starts; else "$1" --root "$2" delete --force "$3" >/dev/null 2>&1; echo fails; fi; }
    echo "| a container limited to 512 KiB of memory | $(starts "$bin/runw" "$work/rw" t1) | $(starts runc "$work/rc" t2) | |"
}

export -f paired alternate peak_create
export work rounds bin

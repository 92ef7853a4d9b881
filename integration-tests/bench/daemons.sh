# shellcheck shell=bash
# The two stacks side by side, and one image in both: sourced by run.
#   daemons    starts them, once a run; afterwards $wharf_host $docker_host $lifecycle_socket $containerd_socket are their
#              addresses and $wharfd $lifecycled $dockerd $containerd their process ids
#   bench_image  makes $image, a docker archive of bench:latest with busybox

wharf_host=unix://$work/wharfd.sock
docker_host=unix://$work/docker.sock
lifecycle_socket=$work/l.sock
containerd_socket=$work/dx/containerd/containerd.sock
image=$work/busybox.tar

bench_image() {
    local diff
    mkdir -p "$work/layer/bin"
    cp /bin/busybox "$work/layer/bin/busybox"
    ln -s busybox "$work/layer/bin/true"
    ln -s busybox "$work/layer/bin/sleep"
    tar -C "$work/layer" -cf "$work/layer.tar" .
    diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
    printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$diff" >"$work/config.json"
    printf '[{"Config":"config.json","RepoTags":["bench:latest"],"Layers":["layer.tar"]}]' >"$work/manifest.json"
    tar -C "$work" -cf "$image" layer.tar config.json manifest.json
}

daemons() {
    [ -z "${wharfd:-}" ] || return 0
    bench_image
    "$bin/wharf-lifecycled" --root "$work/wl" --state "$work/ws" --address "$lifecycle_socket" >"$work/wl.log" 2>&1 &
    pids+=($!)
    lifecycled=$!
    await 20 test -S "$lifecycle_socket"
    "$bin/wharfd" --data-root "$work/we" --exec-root "$work/wx" -H "$wharf_host" --containerd "$lifecycle_socket" --pidfile "$work/w.pid" \
        --cgroup-parent /wharf-bench >"$work/we.log" 2>&1 &
    pids+=($!)
    wharfd=$!
    dockerd --data-root "$work/de" --exec-root "$work/dx" -H "$docker_host" --pidfile "$work/d.pid" --bridge none --iptables=false \
        --ip6tables=false --cgroup-parent /wharf-bench >"$work/de.log" 2>&1 &
    pids+=($!)
    dockerd=$!
    await 20 "$bin/wharf" -H "$wharf_host" version
    await 30 docker -H "$docker_host" version
    "$bin/wharf" -H "$wharf_host" load -q -i "$image" >/dev/null
    docker -H "$docker_host" load -q -i "$image" >/dev/null
    containerd=$(pgrep -P "$dockerd" -x containerd)
}

# shim_of NAME: the pid of the one shim with that program name
shim_of() { pgrep -f "^[^ ]*$1 .*-id" | head -1; }

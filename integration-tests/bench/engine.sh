# shellcheck shell=bash
# The whole stack on one image, and what it keeps in memory: sourced by run.

engine() {
    local run="run --rm --network none bench true"
    daemons
    paired stack "$bin/wharf -H $wharf_host $run" "docker -H $docker_host $run" "docker -H $wharf_host $run"
    "$bin/wharf" -H "$wharf_host" run -d --name idle --network none bench sleep 1000 >/dev/null
    docker -H "$docker_host" run -d --name idle --network none bench sleep 1000 >/dev/null
    paired exec "$bin/wharf -H $wharf_host exec idle true" "docker -H $docker_host exec idle true"
    echo
    echo "## The whole stack, one image"
    echo
    echo "| Work | Wharf | docker | Ratio |"
    echo "|---|---|---|---|"
    echo "| \`wharf run --rm --network none\` of true, beside docker on dockerd | $(row stack 1 2) |"
    echo "| the docker CLI on wharfd, beside docker on dockerd | $(row stack 3 2) |"
    echo "| \`exec\` of true | $(row exec 1 2) |"

    echo
    echo "## Resident memory (RSS / PSS), one idle container, after the runs above"
    echo
    echo "| Wharf | Beside | Wharf | Beside | Ratio |"
    echo "|---|---|---|---|---|"
    memory_row wharfd "$wharfd" dockerd "$dockerd"
    memory_row wharf-lifecycled "$lifecycled" containerd "$containerd"
    memory_row containerd-shim-wharf-v2 "$(shim_of containerd-shim-wharf-v2)" containerd-shim-runc-v2 "$(shim_of containerd-shim-runc-v2)"
    "$bin/wharf" -H "$wharf_host" rm -f idle >/dev/null
    docker -H "$docker_host" rm -f idle >/dev/null
}

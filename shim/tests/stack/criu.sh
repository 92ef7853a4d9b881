#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
runtime=RUNTIME
while [ $# -gt 0 ]; do
    case $1 in
    --root|--log|--log-format) global="$global $1 $2"; shift 2;;
    --image-path) images=$2; shift 2;;
    --work-path) work=$2; shift 2;;
    --bundle|--pid-file|--console-socket) create="$create $1 $2"; shift 2;;
    --detach|--no-subreaper) shift;;
    --leave-running) goes_on=1; shift;;
    checkpoint|restore) verb=$1; shift;;
    -*) other="$other $1"; shift;;
    *) if [ -z "$verb" ]; then exec "$runtime" $global $other "$@"; fi; id=$1; shift;;
    esac
done
if [ "$verb" = restore ]; then
    "$runtime" $global create $create "$id" && exec "$runtime" $global start "$id"
fi
if [ -e "$here/fails" ]; then
    echo "the log of CRIU" > "$work/dump.log"
    printf '%s\n' '{"level":"error","msg":"criu failed: type NOTIFY errno 0\nlog file: dump.log"}' >> log.json
    exit 1
fi
mkdir -p "$images" && echo image > "$images/pages-1.img"
[ -n "$goes_on" ] || exec "$runtime" $global kill "$id" KILL

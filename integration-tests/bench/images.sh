# shellcheck shell=bash
# Pull, import and push of an image of eight gzip layers, some 800 MB when unpacked: sourced by run.
#
# The image is made of files below /usr of this machine: every so many of each kind that there are, with their folders.
# Needs the example `transfer` of the integration tests, a client of the Transfer service; Debian's ctr pulls in its own
# process and works on containerd as it does everywhere.

layout=$work/layout
archive=$work/image.tar
layers_dir=$work/layers

# images_make: $layout and $archive, the image bench:latest; its plain layers in $layers_dir
images_make() {
    mkdir -p "$layout/blobs/sha256" "$layers_dir"
    find /usr -xdev -type f -size -32M -printf '%s\t%P\t%i\n' | LC_ALL=C sort -t$'\t' -k2 >"$work/files"
    # a file with several names counts once; folders come before what is in them
    awk -F'\t' -v want=811000000 -v lists="$layers_dir/list" '
        { if ((NR == FNR, $3) in inode) $1 = 0; else inode[NR == FNR, $3] }
        NR == FNR { total += $1; next }
        FNR % 20 == 1 { take = taken < seen * want / total }
        { seen += $1 }
        !take { next }
        {
            n = int(taken / (want / 8)); if (n > 7) n = 7
            taken += $1
            dir = ""; parts = split($2, part, "/")
            for (i = 1; i < parts; i++) {
                dir = dir (i > 1 ? "/" : "") part[i]
                if (!((n, dir) in made)) { made[n, dir]; print dir > (lists n) }
            }
            print $2 > (lists n)
        }' "$work/files" "$work/files"
    seq 0 7 | xargs -P "$(nproc)" -I N sh -c "
        tar -C /usr --no-recursion --verbatim-files-from --transform='s,^,usr/,' -cf '$layers_dir/N.tar' -T '$layers_dir/listN'
        gzip -n -6 -k '$layers_dir/N.tar'"
    local n size digest diffs=() descriptors=()
    for n in 0 1 2 3 4 5 6 7; do
        diffs+=("$(sha256sum "$layers_dir/$n.tar" | cut -d' ' -f1)")
        descriptors+=("$(images_blob "$layers_dir/$n.tar.gz" application/vnd.oci.image.layer.v1.tar+gzip)")
    done
    printf '%s\n' "${diffs[@]}" | jq -R '"sha256:" + .' |
        jq -cjs '{architecture: "amd64", os: "linux", config: {}, rootfs: {type: "layers", diff_ids: .}}' >"$work/image-config"
    printf '%s\n' "${descriptors[@]}" | jq -cjs --argjson config "$(images_blob "$work/image-config" application/vnd.oci.image.config.v1+json)" \
        '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: .}' >"$work/image-manifest"
    images_blob "$work/image-manifest" application/vnd.oci.image.manifest.v1+json |
        jq -c '.annotations = {"org.opencontainers.image.ref.name": "latest"} | {schemaVersion: 2, manifests: [.]}' >"$layout/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    tar -C "$layout" -cf "$archive" .
}

# images_blob FILE TYPE: the file as a blob of the layout; its descriptor
images_blob() {
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    ln "$1" "$layout/blobs/sha256/$digest"
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$2" "$digest" "$(stat -c %s "$1")"
}

# images_registry PORT: a registry with its data in $work/registry-PORT
images_registry() {
    mkdir -p "$work/registry-$1"
    printf 'version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: 127.0.0.1:%s\n' \
        "$work/registry-$1" "$1" >"$work/registry-$1.yml"
    docker-registry serve "$work/registry-$1.yml" >"$work/registry-$1.log" 2>&1 &
    pids+=($!)
    await 10 curl -sf "http://127.0.0.1:$1/v2/"
}

images() {
    daemons
    local transfer=$bin/../examples/transfer
    [ -x "$transfer" ] || transfer=${WHARF_BENCH_TRANSFER:?names the example transfer of the integration tests}
    local ours="$transfer $lifecycle_socket images" theirs="ctr -a $containerd_socket -n images"
    local from=127.0.0.1:5001/bench/image:latest to=127.0.0.1:5002/bench/image:latest
    images_make
    images_registry 5001
    images_registry 5002
    skopeo copy -q --insecure-policy --dest-tls-verify=false "oci:$layout:latest" "docker://$from"
    # nothing of an earlier round is left: images, their content and snapshots, and what was pushed
    cat >"$work/afresh" <<SCRIPT
#!/bin/bash
for address in $lifecycle_socket $containerd_socket; do
    for image in $from $to import; do ctr -a \$address -n images images rm --sync \$image; done
done >/dev/null 2>&1
rm -rf $work/registry-5002/docker $work/copied $work/written
sync -f $work
SCRIPT
    chmod +x "$work/afresh"
    paired_with pull 7 "$work/afresh" "$ours pull $from" "$theirs images pull --plain-http $from"
    paired_with same-client 3 "$work/afresh" \
        "ctr -a $lifecycle_socket -n images images pull --plain-http $from" "$theirs images pull --plain-http $from"
    cat >"$work/write" <<SCRIPT
#!/bin/sh
mkdir -p $work/written/0 $work/written/1 $work/written/2 $work/written/3 $work/written/4 $work/written/5 $work/written/6 $work/written/7
seq 0 7 | xargs -P $(nproc) -I N sh -c 'tar -C $work/written/N -xf $layers_dir/N.tar && cp $layers_dir/N.tar.gz $work/written/N.gz'
sync -f $work/written
SCRIPT
    chmod +x "$work/write"
    paired_with bounds 7 "$work/afresh" "$transfer inflate $layers_dir/0.tar.gz $layers_dir/1.tar.gz $layers_dir/2.tar.gz $layers_dir/3.tar.gz $layers_dir/4.tar.gz $layers_dir/5.tar.gz $layers_dir/6.tar.gz $layers_dir/7.tar.gz" "$work/write"
    # the highest mark of memory during one pull
    "$work/afresh"
    echo 5 >"/proc/$lifecycled/clear_refs"
    $ours pull "$from"
    local peak
    peak=$(awk '/^VmHWM/{printf "%.0f", $2 / 1024}' "/proc/$lifecycled/status")
    paired_with import 7 "$work/afresh" "$ours import $archive import" \
        "skopeo copy -q --insecure-policy oci-archive:$archive:latest oci:$work/copied:latest"
    # pushed from here: one pull that stays
    "$work/afresh"
    $ours pull "$from"
    paired_with push 7 "rm -rf $work/registry-5002/docker" "$ours push $from $to" \
        "skopeo copy -q --insecure-policy --dest-tls-verify=false oci:$layout:latest docker://$to"
    echo
    echo "## Images"
    echo
    echo "An image of 8 gzip layers with $(cat "$layers_dir"/list? | wc -l) entries, $(du -cb "$layers_dir"/?.tar | awk 'END{printf "%.0f", $1/1e6}') MB of archives," \
        "$(du -cb "$layers_dir"/?.tar.gz | awk 'END{printf "%.0f", $1/1e6}') MB compressed; a registry on the loopback interface."
    echo
    echo "| Work | Ours | Beside | Ratio |"
    echo "|---|---|---|---|"
    echo "| pull and unpack, beside containerd with its \`ctr\` | $(row pull 1 2) |"
    echo "| the same, \`ctr\` of Debian on both daemons | $(row same-client 1 2) |"
    awk -F'\t' 'NR == FNR { pull = $1; next } {
        larger = $1 > $2 ? $1 : $2
        printf "| pull and unpack, beside the larger of decompressing on all cores (%.1f ms) and writing with `tar`, `cp` and `sync` (%.1f ms) | %.1f ms | %.1f ms | %.2f |\n",
            $1, $2, pull, larger, pull / larger }' "$work/pull.tsv" "$work/bounds.tsv"
    echo "| import without unpacking, beside \`skopeo copy oci-archive: oci:\` | $(row import 1 2) |"
    echo "| push, beside \`skopeo copy oci: docker:\` | $(row push 1 2) |"
    echo
    echo "The lifecycle daemon's memory was at most $peak MB during a pull."
}

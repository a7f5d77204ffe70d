#!/bin/sh
# Reports whether the root of this container is an image that was mounted before it had been pulled.
# Exit codes: 0 lazy, 1 not lazy, 3 unknown. Printed by "tocsin am-i-lazy --print".
# With an argument, a file such as /proc/PID/mountinfo, it reports on that process instead.
report() {
    printf '%s: %s\n' "$2" "$3"
    exit "$1"
}
mounts=${1:-/proc/self/mountinfo}
if [ $# = 0 ] && [ -n "${ECS_CONTAINER_METADATA_URI_V4-}" ]; then # Amazon ECS, with Fargate or not
    task=$(curl -fs -m 5 "$ECS_CONTAINER_METADATA_URI_V4" 2>/dev/null) ||
        task=$(wget -q -O - "$ECS_CONTAINER_METADATA_URI_V4" 2>/dev/null) || task=
    case $task in *'"Snapshotter"'*)
        value=${task#*'"Snapshotter"'}
        value=${value#*\"}
        value=${value%%\"*}
        case $value in
        soci) report 0 lazy "AWS Fargate reports the snapshotter soci" ;;
        overlayfs) report 1 "not lazy" "AWS Fargate reports the snapshotter overlayfs" ;;
        esac
        ;;
    esac
fi
[ -r "$mounts" ] || report 3 unknown "$mounts cannot be read"
root=
while read -r id parent device directory point rest; do
    [ "$point" = / ] && root=${rest#* - } # the last mount hides those below it
done <"$mounts"
hex='[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
mount="images/$hex$hex$hex$hex$hex$hex$hex$hex-[0-9]*/[fc][so]" # fs or complete
case $root in
"fuse tocsin "* | "fuse.tocsin tocsin "*) report 0 lazy "the root is a FUSE mount of tocsin" ;;
"erofs /proc/self/fd/"*) report 0 lazy "the root is an EROFS mount of tocsin" ;;
overlay*:$mount* | overlay*:*/$mount*) # shellcheck disable=SC2254
    report 0 lazy "lower layers are a mount of tocsin; the layers above them were unpacked" ;;
overlay*lowerdir*$mount* | overlay*lowerdir*/tocsin-run-*/image,*)
    report 0 lazy "the root is an overlay on a mount of tocsin" ;;
overlay*/io.containerd.snapshotter.v1.overlayfs/*)
    report 1 "not lazy" "containerd unpacked the layers with its snapshotter overlayfs" ;;
overlay*/docker/overlay2/*) report 1 "not lazy" "Docker unpacked the layers" ;;
overlay*/tocsin-snapshotter/snapshots/*)
    report 1 "not lazy" "containerd unpacked the layers; tocsin status says why" ;;
overlay*/soci-snapshotter-grpc/* | overlay*/containerd-stargz-grpc/* | overlay*/containers/storage/*)
    report 3 unknown "this snapshotter names lazy layers and unpacked ones alike" ;;
"") report 3 unknown "$mounts does not list the root" ;;
esac
report 3 unknown "the root is a mount of the type ${root%% *}"

#!/bin/sh
# Writes archives of one unusual tree to the current directory, one for each tool and format. If a
# tool is missing or fails, its archive is left out and the archive's name is printed.
set -eu
mkdir -p tree/d/e
cd tree
echo hello > d/a
ln -s a d/s
ln d/a d/h
mkfifo d/p
chmod 4755 d/a
long=$(printf 'l%.0s' $(seq 180))
echo x > "$long"
ln -s "$long$long" link
ln "$long" "hard-$long"
deep=$(printf 'directory-number-%s/' $(seq 12))
mkdir -p "$deep"
echo y > "$deep/file"
touch -d '1969-12-31T23:59:54.75Z' old
touch -d '2400-02-29T12:00:00.123456789Z' future
: > "$(printf 'caf\303\251')"
: > "$(printf 'latin-\351')"
truncate -s 300000 sparse
printf data | dd of=sparse bs=1 seek=100000 conv=notrunc status=none
printf end | dd of=sparse bs=1 seek=299990 conv=notrunc status=none
for hole in $(seq 130); do
    printf . | dd of=holes bs=1 seek=$((hole * 8192)) conv=notrunc status=none
done
cd ..

made() {
    name=$1
    shift
    "$@" 2> "$name.log" || { echo "$name"; rm -f "$name.tar"; }
}

gnu() {
    name=$1
    shift
    made "$name" tar "$@" -cf "$name.tar" tree
}

python() {
    script='import sys, tarfile
with tarfile.open(sys.argv[1], "w", format=getattr(tarfile, sys.argv[2]), encoding="utf-8",
                  errors="surrogateescape") as archive:
    archive.add(sys.argv[3])'
    made "python-$1" python3 -c "$script" "python-$1.tar" "$1" "$2"
}

gnu v7 --format=v7 --exclude=*lll* --exclude=*directory* --exclude=link --exclude=p \
    --exclude=old --exclude=future
gnu oldgnu --format=oldgnu
gnu oldgnu-sparse --format=oldgnu --sparse
gnu gnu --format=gnu
gnu gnu-one-block-records --format=gnu -b 1
gnu gnu-big-ids --format=gnu --owner=big:4000000000 --group=big:9999999
gnu ustar --format=ustar --exclude=*lll* --exclude=*12 --exclude=link --exclude=old \
    --exclude=future
gnu posix --format=posix
gnu posix-sparse-0.0 --format=posix --sparse --sparse-version=0.0
gnu posix-sparse-0.1 --format=posix --sparse --sparse-version=0.1
gnu posix-sparse-1.0 --format=posix --sparse --sparse-version=1.0
gnu posix-big-ids --format=posix --owner=big:4000000000 --group=big:9999999
gnu posix-global --format=posix --pax-option=comment=hello
gnu posix-edited --format=posix --pax-option=delete=atime,delete=ctime,uname:=root,my.key:=
gnu posix-label --format=posix --label=label
python GNU_FORMAT tree
python PAX_FORMAT tree
python USTAR_FORMAT tree/d
made star star -c f=star.tar artype=xstar tree
made bsdtar bsdtar -cf bsdtar.tar tree

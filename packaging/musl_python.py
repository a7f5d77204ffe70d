"""How to build CPython with musl in a Debian, whose own Python uses glibc.

numpy's wheels need musl 1.2.4, which is the first that applies relative relocations (DT_RELR).
Debian has it since trixie.
"""

PACKAGES = "gcc,make,perl,libc6-dev,musl-tools,ca-certificates"
SOURCES = ("zlib", "libffi", "openssl", "python3.11")
"""Source packages: CPython, and the libraries of modules that pip and tocsin import."""

BUILD = r"""
set -e
# Headers of Linux, which have nothing to do with a libc; musl-gcc leaves out /usr/include.
for name in linux asm-generic; do ln -sfn /usr/include/$name /usr/include/x86_64-linux-musl/; done
ln -sfn /usr/include/x86_64-linux-gnu/asm /usr/include/x86_64-linux-musl/
# The name of musl that Alpine's programs use, and so the wheels from PyPI.
ln -sfn ld-musl-x86_64.so.1 /lib/libc.musl-x86_64.so.1
# CPython asks the compiler for the platform, which is part of the names of extension modules.
cat > /usr/local/bin/cc-musl <<'END'
#!/bin/sh
case $1 in --print-multiarch | -print-multiarch) echo x86_64-linux-musl; exit ;; esac
exec musl-gcc "$@"
END
chmod +x /usr/local/bin/cc-musl
export CC=cc-musl CFLAGS='-O1 -fPIC -w' PKG_CONFIG_LIBDIR=/opt/musl/lib/pkgconfig
cd /src/zlib
./configure --static --prefix=/opt/musl
make -s -j2 install
cd /src/libffi
./configure -q --prefix=/opt/musl --disable-shared --disable-docs --disable-exec-static-tramp
make -s -j2 install
cd /src/openssl
./Configure linux-x86_64 --prefix=/opt/musl --libdir=lib no-shared no-tests no-engine no-dso no-asm
make -s -j2 build_libs
make -s install_dev
cd /src/python3.11
./configure -q --prefix=/opt/python --with-openssl=/opt/musl \
    CPPFLAGS=-I/opt/musl/include LDFLAGS=-L/opt/musl/lib
make -s -j2
make -s install
/opt/python/bin/python3.11 -c 'import ctypes, ssl, zlib'
"""
"""Commands of a shell that build CPython into ``/opt/python`` from the sources in ``/src``."""

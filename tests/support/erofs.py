"""EROFS file systems over the uncompressed layers of an image, mounted by the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support.seektables import layer_parts, table_of
from support.tools import missing
from tocsin import _core

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MS_RDONLY = 1
BLOCK = 512
Sparse = tuple[str, list[tuple[int, int, int]]]
"""A path, and the extents of its data: start, length and offset in the layer."""


def make_erofs(layers: Sequence[bytes], sparse: Sequence[Sparse] = ()) -> bytes:
    """Return the metadata of uncompressed layers, which is the same from both kinds of index."""
    parts = [layer_parts(layer) for layer in layers]
    sizes = [len(layer) for layer in layers]
    tree = _core.Tree([ztoc for ztoc, _, _ in parts])
    image = _core.erofs_image(tree, sizes, list(sparse))
    table = table_of(parts)
    listed = _core.SeekTree(_core.SeekRoot(table.root()))
    for number in listed.missing_chunks():
        listed.add_chunk(number, table.chunk(number))
    assert _core.erofs_image(listed, sizes, list(sparse)) == image
    return image


@contextmanager
def mounted_erofs(
    place: Path, layers: Sequence[bytes], sparse: Sequence[Sparse] = ()
) -> Iterator[Path]:
    """Mount the image of uncompressed layers, and unmount it at the end."""
    meta = place / "meta"
    meta.write_bytes(make_erofs(layers, sparse))
    options = []
    for number, layer in enumerate(layers):
        path = place / f"layer{number}"
        path.write_bytes(layer + bytes(-len(layer) % BLOCK))
        options.append(f"device={path}")
    target = place / "mounted"
    target.mkdir()
    with mounted("erofs", meta, target, ",".join(options)):
        yield target


@contextmanager
def mounted(
    kind: str, source: Path, target: Path, options: str, *, flags: int = MS_RDONLY
) -> Iterator[None]:
    """Mount a file system with the system call; mount(8) would make a loop device."""
    if os.geteuid() != 0:
        missing("mounting needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [os.fsencode(word) for word in (source, target, kind)]
    if libc.mount(*arguments, flags, options.encode()) != 0:
        code = ctypes.get_errno()
        if code in (errno.ENODEV, errno.ENOTBLK, errno.EPERM):
            missing(f"this kernel cannot mount {kind} over files: {os.strerror(code)}")
        raise OSError(code, os.strerror(code))
    try:
        yield
    finally:
        assert libc.umount2(arguments[1], 0) == 0, os.strerror(ctypes.get_errno())

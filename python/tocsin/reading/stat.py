"""The metadata of one path in an image."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tocsin.model.document import escaped_text, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tocsin.model.digest import Digest
    from tocsin.model.document import Document

_XATTR = b"SCHILY.xattr."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPE_BITS = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
    "hardlink": 0,
}
_FIRST_NS, _LAST_NS = (
    (limit.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * 10**9
    for limit in (datetime.min, datetime.max)
)
"""The first and last seconds of ``datetime``, in nanoseconds since 1970: times in zTOCs
go back to the year 0, and a UTC offset may put one past the year 9999."""
NO_ID = 0xFFFFFFFF
"""The id that means "do not change" in chown(2)."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """Metadata of one path in an image.

    Attributes:
        path: absolute, resolved path.
        type: ``file``, ``dir``, ``symlink``, ``char``, ``block`` or ``fifo``; ``hardlink`` for a
            hard link whose target is missing.
        size: size in bytes; 0 for everything but files and links.
        mode: permission bits with set-id and sticky bits.
        uid: user id.
        gid: group id.
        uname: user name in the tar.
        gname: group name in the tar.
        mtime_ns: nanoseconds since 1970, UTC.
        linkname: target of a symbolic link, as in the tar.
        devmajor: major device number.
        devminor: minor device number.
        xattrs: extended attributes.
        inode: a number that all hard links to a file share, and that no other file has.
        layer: number of the layer that the file comes from, 0 for the lowest.
        layer_digest: digest of that layer; ``None`` if it is not known.
    """

    path: str
    type: str
    size: int = 0
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    uname: str = ""
    gname: str = ""
    mtime_ns: int = 0
    linkname: str = ""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    inode: int = 0
    layer: int = 0
    layer_digest: Digest | None = None

    def to_dict(self) -> Document:
        """Return what ``--json`` prints for a path; its ``layer`` is the digest of the layer."""
        return {
            "path": self.path,
            "type": self.type,
            "size": self.size,
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
            "uname": self.uname,
            "gname": self.gname,
            "mtime_ns": self.mtime_ns,
            "linkname": self.linkname,
            "devmajor": self.devmajor,
            "devminor": self.devminor,
            "xattrs": {name: escaped_text(value) for name, value in self.xattrs.items()},
            "inode": self.inode,
            "layer": text_of(self.layer_digest),
        }

    @property
    def name(self) -> str:
        """The last part of the path; empty for the root."""
        return self.path.rpartition("/")[2]

    @property
    def mtime(self) -> datetime:
        """Modification time, rounded down to microseconds."""
        return _EPOCH + timedelta(microseconds=self.mtime_ns // 1000)

    @property
    def st_mode(self) -> int:
        """Type and permissions as in ``os.stat_result``, for the functions of ``stat``."""
        return _TYPE_BITS[self.type] | self.mode

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.type == "dir"

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type == "file"

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link; never true for results of `Image.stat`."""
        return self.type == "symlink"


class _Draft:
    """A `FileStat` while its fields are set, which a frozen one does with a call for each field."""

    __slots__ = FileStat.__slots__

    def __init__(self, row: Sequence[Any], layer_digest: Digest | None) -> None:
        (
            self.path,
            self.type,
            self.size,
            self.mode,
            self.uid,
            self.gid,
            self.uname,
            self.gname,
            self.mtime_ns,
            self.linkname,
            self.devmajor,
            self.devminor,
            self.xattrs,
            self.inode,
            self.layer,
        ) = row
        self.layer_digest = layer_digest


def file_stat(row: Sequence[Any], layer_digest: Digest | None) -> FileStat:
    """Return the same as ``FileStat(*row, layer_digest)``, which takes four times as long.

    Args:
        row: the fields up to ``layer``, in their order.
        layer_digest: digest of that layer; ``None`` if it is not known.
    """
    made: Any = _Draft(row, layer_digest)
    made.__class__ = FileStat
    found: FileStat = made
    return found


def xattrs_of(pax_records: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return the extended attributes among the PAX records of an entry."""
    return {
        key.removeprefix(_XATTR).decode("utf-8", "surrogateescape"): value
        for key, value in pax_records.items()
        if key.startswith(_XATTR)
    }


def mtime_or_zero(nanoseconds: int | None) -> int:
    """Return a time; 0 if there is none, or if ``datetime`` cannot represent it."""
    if nanoseconds is None or not _FIRST_NS <= nanoseconds < _LAST_NS + 10**9:
        return 0
    return nanoseconds

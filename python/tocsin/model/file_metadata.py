"""One entry of a layer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tocsin.model.document import escaped_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tocsin.model.document import Document


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """One entry of a layer, as listed in the zTOC.

    Names are decoded as UTF-8 with ``surrogateescape``, so ``os.fsencode`` restores the original
    bytes.

    Attributes:
        name: name in the tar, not normalized; directories end with a slash.
        type: ``reg``, ``hardlink``, ``symlink``, ``char``, ``block``, ``dir`` or ``fifo``.
        uncompressed_offset: offset of the data in the uncompressed layer.
        uncompressed_size: bytes of data.
        linkname: target of a link, empty otherwise.
        mode: the mode field with all bits.
        uid: user id.
        gid: group id.
        uname: user name.
        gname: group name.
        mod_time: RFC 3339 text; empty if the year is outside 0-9999.
        devmajor: major device number.
        devminor: minor device number.
        pax_records: all PAX records as bytes; extended attributes start with ``SCHILY.xattr.``.
        is_sparse: whether the layer stores only the data between holes (PAX sparse formats).
    """

    name: str
    type: str
    uncompressed_offset: int
    uncompressed_size: int
    linkname: str
    mode: int
    uid: int
    gid: int
    uname: str
    gname: str
    mod_time: str
    devmajor: int
    devminor: int
    pax_records: Mapping[bytes, bytes]
    is_sparse: bool = False

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Return an entry from fields whose text is encoded as bytes."""
        decoded: dict[str, Any] = {
            name: os.fsdecode(value) if isinstance(value, bytes) else value
            for name, value in fields.items()
        }
        return cls(**decoded)

    def to_dict(self) -> Document:
        """Return the entry as printed by ``tocsin ztoc ls --json``, without its spans."""
        return {
            "name": self.name,
            "type": self.type,
            "linkname": self.linkname,
            "uncompressed_offset": self.uncompressed_offset,
            "uncompressed_size": self.uncompressed_size,
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
            "uname": self.uname,
            "gname": self.gname,
            "mod_time": self.mod_time,
            "devmajor": self.devmajor,
            "devminor": self.devminor,
            "pax_records": {
                escaped_text(key): escaped_text(value) for key, value in self.pax_records.items()
            },
        }

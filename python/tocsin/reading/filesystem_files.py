"""Files of the fsspec file system, which raise the same errors as local files."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING, Any, Protocol, cast

from fsspec.spec import AbstractBufferedFile

from tocsin.errors import PathError
from tocsin.reading.file import BUFFER_SIZE

if TYPE_CHECKING:
    from tocsin.reading.image import Image

_ERRNO = {
    "missing": errno.ENOENT,
    "not_directory": errno.ENOTDIR,
    "directory": errno.EISDIR,
    "special": errno.EINVAL,
    "loop": errno.ELOOP,
    "depth": errno.ENAMETOOLONG,
}


class ImageFileSystem(Protocol):
    """The part of the file system that its files use."""

    blocksize: int

    @property
    def image(self) -> Image: ...  # noqa: D102 (in `TocsinFileSystem`)
    def unstrip_protocol(self, name: str) -> str: ...  # noqa: D102 (in `TocsinFileSystem`)
    def cat_file(self, path: str, start: int | None, end: int | None) -> bytes: ...  # noqa: D102


class ImageFileReader(io.BufferedReader):
    """A buffered file of an image; unpickling reopens it at the same offset.

    Attributes:
        fs: file system of the file.
        path: path in the image.
        size: size in bytes.
    """

    def __init__(self, fs: ImageFileSystem, path: str) -> None:
        with as_os_errors(path):
            raw = cast("io.RawIOBase", fs.image.open(path, buffering=0))
        super().__init__(raw, BUFFER_SIZE)
        self.fs = fs
        self.path = path
        self.size = raw.seek(0, os.SEEK_END)
        raw.seek(0)

    @property
    def full_name(self) -> str:
        """URL of the file."""
        return self.fs.unstrip_protocol(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.fs, self.path, self.tell())


def _reopened(fs: ImageFileSystem, path: str, offset: int) -> ImageFileReader:
    file = ImageFileReader(fs, path)
    file.seek(offset)
    return file


class BlockwiseFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A file of an image behind one of fsspec's caches, which keep fixed-size blocks.

    ``blockcache::`` needs such files, since it replaces their ``cache``.

    Args:
        fs: file system of the file.
        path: path in the image.
        options: options of fsspec.
    """

    def __init__(
        self,
        fs: ImageFileSystem,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        **options: Any,  # noqa: ANN401 (fsspec's)
    ) -> None:
        with as_os_errors(path):
            options["size"] = fs.image.regular_file(path).size
        super().__init__(fs, path, mode, block_size or fs.blocksize, **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start, end)
        return data


def is_path_error(value: bytes | Exception) -> bool:
    """Return whether a result of `read_ranges` is a PathError."""
    return isinstance(value, PathError)


def os_error(error: Any, path: Any) -> OSError:  # noqa: ANN401 (a PathError; a path or a URL)
    """Return `error` as the OSError that Python raises for local files."""
    return OSError(_ERRNO[error.reason], error.message, str(path))


class as_os_errors:  # noqa: N801 (used as a context manager)
    """Convert a PathError raised inside to the OSError that Python raises for local files."""

    def __init__(self, path: Any) -> None:  # noqa: ANN401 (a path or a URL)
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, PathError):
            raise os_error(error, self._path) from error

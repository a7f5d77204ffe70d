"""An image as an fsspec file system, so that pandas, dask, pyarrow and others can read its files.

A URL names the image and the path: ``tocsin://IMAGE:/PATH``, for example
``tocsin://ghcr.io/team/app:1:/etc/passwd`` or ``tocsin://oci:DIR:tag:/etc/passwd``. With the option
``image``, the URL contains only the path: ``tocsin:///etc/passwd``. Only this module and
`filesystem_files` import fsspec, an optional dependency. fsspec finds this module through an entry
point.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self

from fsspec import AbstractFileSystem
from fsspec.utils import tokenize

from tocsin.errors import NotFoundError, PathError
from tocsin.layers.disk_cache import DEFAULT_DISK_CACHE_SIZE
from tocsin.layers.forking import forget_after_fork
from tocsin.layers.spans import DEFAULT_CACHE_SIZE
from tocsin.model.reference import parse_reference, split_path
from tocsin.model.user_info import user_info, without_user_info
from tocsin.reading.filesystem_files import (
    BlockwiseFile,
    ImageFileReader,
    as_os_errors,
    is_path_error,
    os_error,
)
from tocsin.reading.image import Image
from tocsin.reading.image import open as open_image
from tocsin.reading.ranges import FileRange, read_ranges

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tocsin.model.entry_path import StrPath
    from tocsin.reading.stat import FileStat
    from tocsin.stores.registry import RegistryOptions

PROTOCOL = "tocsin"
_SCHEME = f"{PROTOCOL}://"
_SECRETS = frozenset({"username", "password"})


class TocsinFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of one image, read-only; everything read is verified.

    The image is opened when first used, and again in each process that unpickles this object. An
    image never changes while it is open, so only the image itself is cached here.

    Args:
        image: reference of the image, as for ``tocsin.open``.
        platform: platform, such as ``linux/arm64``, as for ``tocsin.open``.
        index: which indexes to use, as for ``tocsin.open``.
        index_missing: whether to read layers without a zTOC once, in full.
        threads: number of threads that read such layers; by default, one for each processor that
            this process may use.
        cache_size: maximum size of the spans in memory, in bytes.
        cache_dir: directory where zTOCs and spans are cached.
        cache_dir_size: maximum size of this directory, in bytes.
        username: user name; this and the following arguments are as in
            ``tocsin.RegistryOptions``.
        password: password; never shown, and never sent to another process.
        ca_cert: PEM file with CA certificates.
        client_cert: PEM file with the client certificate, or a pair of certificate and key.
        insecure: accept any certificate.
        plain_http: use http instead of https.
        hosts_dir: directory of containerd's ``hosts.toml`` files.
        credentials_dropped: whether another process had a user name and password for this image.
        options: options of fsspec itself.

    User name and password stay in this process: `storage_options`, pickles, ``to_json`` and dask's
    tokens do not contain them. Another process uses the credentials that are stored where it runs,
    and raises an `AuthError` if the registry requires some and none are found. (dask and pandas may
    send the ``storage_options`` that they are given, password included.)
    """

    protocol = PROTOCOL
    root_marker = "/"

    def __init__(
        self,
        image: str | None = None,
        *,
        platform: str | None = None,
        index: str = "auto",
        index_missing: bool = True,
        threads: int | None = None,
        cache_size: int = DEFAULT_CACHE_SIZE,
        cache_dir: StrPath | None = None,
        cache_dir_size: int = DEFAULT_DISK_CACHE_SIZE,
        username: str | None = None,
        password: str | None = None,
        ca_cert: StrPath | None = None,
        client_cert: StrPath | tuple[StrPath, StrPath] | None = None,
        insecure: bool = False,
        plain_http: bool | None = None,
        hosts_dir: StrPath | None = None,
        credentials_dropped: bool = False,
        **options: Any,  # noqa: ANN401 (fsspec's)
    ) -> None:
        super().__init__(**options)
        if image is None:
            raise ValueError(
                f"image is missing, expected {_SCHEME}IMAGE:/PATH or the option image, such as "
                'storage_options={"image": "ghcr.io/team/app:1"}'
            )
        if user_info(image) is not None:
            parse_reference(image)  # raises before anything keeps the password
        self.reference = image
        self._opened = _OpenedImage(
            partial(
                open_image,
                image,
                platform=platform,
                index=index,
                index_missing=index_missing,
                threads=threads,
                cache_size=cache_size,
                cache_dir=cache_dir,
                cache_dir_size=cache_dir_size,
                registry=_registry_options(
                    username=username,
                    password=password,
                    ca_cert=ca_cert,
                    client_cert=client_cert,
                    insecure=insecure,
                    plain_http=plain_http,
                    hosts_dir=hosts_dir,
                    credentials_dropped=credentials_dropped,
                ),
            )
        )

    @property
    def storage_options(self) -> dict[str, Any]:
        """The options of this file system, without user name and password."""
        return self._sendable_options

    @storage_options.setter
    def storage_options(self, given: dict[str, Any]) -> None:
        # fsspec sets this after making an instance, and writes it to pickles and JSON.
        kept = {name: value for name, value in given.items() if name not in _SECRETS}
        if any(given.get(name) is not None for name in _SECRETS):
            kept["credentials_dropped"] = True
        self._sendable_options = kept

    @property
    def _fs_token(self) -> str:
        """The token by which fsspec compares file systems and dask names tasks.

        It depends only on the options that may be sent; fsspec's own also hashes the password.
        """
        token: str = tokenize(type(self).__qualname__, self.storage_args, self.storage_options)
        return token

    @property
    def image(self) -> Image:
        """The image, which is opened when first used.

        Raises:
            FileNotFoundError: the image is missing.
            TocsinError, OSError: as ``tocsin.open``.
        """
        try:
            return self._opened()
        except NotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, error.message, self.reference) from error

    def close(self) -> None:
        """Close connections and stop threads; the next use opens the image again."""
        self._opened.close()

    # -- names ---------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:  # noqa: ANN401 (as fsspec: one, or a list)
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        if isinstance(path, _PathInImage):
            return path
        text = os.fspath(path)
        image = None
        if text.startswith(_SCHEME):
            text = text.removeprefix(_SCHEME)
            image, text = _image_and_path(text)
        text = "/" + text.strip("/")
        return text if image is None else _PathInImage(text, image)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        image, _ = _image_and_path(path.removeprefix(_SCHEME))
        return {} if image is None else {"image": image}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path, with the image."""
        return f"{_SCHEME}{self.reference}:{self._inside(name)}"

    def _inside(self, path: Any) -> str:  # noqa: ANN401 (a path or a URL)
        """Return a path inside this image.

        Raises:
            ValueError: it is a URL of another image, which happens because fsspec opens several
                URLs with the file system of the first one.
        """
        stripped = self._strip_protocol(path)
        if isinstance(stripped, _PathInImage) and stripped.image != self.reference:
            other = without_user_info(stripped.image)
            raise ValueError(
                f"{_SCHEME}{other}:{stripped}: not in the image {self.reference}, open the URLs of "
                "each image separately"
            )
        return str(stripped)

    # -- metadata ------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:  # noqa: ANN401 (fsspec's)
        """Return the metadata of a path, following symbolic links.

        Returns:
            ``name``; ``type``: ``file``, ``directory``, ``link`` (whose target is missing) or
            ``other``; ``size`` in bytes; ``mode`` with type bits, ``uid``, ``gid``; ``mtime`` in
            seconds since 1970; ``ino``; ``islink``, and for a symbolic link ``destination``.

        Raises:
            FileNotFoundError, NotADirectoryError: the path is missing.
        """
        inside = self._inside(path)
        with as_os_errors(path):
            found = self.image.lstat(inside)
        return self._described(inside, found, listed=False)

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:  # noqa: ANN401, FBT001, FBT002 (fsspec's)
        """Return the `info`, or only the name, of each entry of a directory; for a file, its own.

        A symbolic link to a directory has the type ``link``, so that walks do not follow it.
        """
        inside = self._inside(path)
        with as_os_errors(path):
            found = self.image.ls(inside)
            is_directory = self.image.is_dir(inside)
        # Names begin with the path that the caller gave, even if it leads through links.
        prefix = inside.rstrip("/")
        names = [f"{prefix}/{each.name}" if is_directory else inside for each in found]
        if not detail:
            return names
        return [
            self._described(name, each, listed=is_directory)
            for name, each in zip(names, found, strict=True)
        ]

    def exists(self, path: str, **_: Any) -> bool:  # noqa: ANN401 (fsspec's)
        """Return whether a path exists; raise if the image cannot be reached."""
        return self.image.exists(self._inside(path))

    def isdir(self, path: str) -> bool:
        """Return whether a path is a directory, following symbolic links."""
        return self.image.is_dir(self._inside(path))

    def isfile(self, path: str) -> bool:
        """Return whether a path is a regular file, following symbolic links."""
        return self.image.is_file(self._inside(path))

    def lexists(self, path: str, **_: Any) -> bool:  # noqa: ANN401 (fsspec's)
        """Return whether a path exists, even if it is a link whose target is missing."""
        try:
            self.image.lstat(self._inside(path))
        except PathError:
            return False
        return True

    def modified(self, path: str) -> datetime:
        """Return the modification time of a file; images do not record creation times."""
        inside = self._inside(path)
        with as_os_errors(path):
            return self.image.stat(inside).mtime

    def ukey(self, path: str) -> str:
        """Return a key that is equal for the same file of the same layer in all images."""
        inside = self._inside(path)
        with as_os_errors(path):
            found = self.image.stat(inside)
        layer = self.image.layer_descriptors[found.layer].digest
        return hashlib.sha256(f"{layer} {found.inode}".encode()).hexdigest()

    def _described(self, name: str, found: FileStat, *, listed: bool) -> dict[str, Any]:
        link = found if found.is_symlink else None
        if link is not None:
            try:
                found = self.image.stat(found.path)
            except PathError:
                found = link
        kind = {"file": "file", "dir": "directory", "symlink": "link"}.get(found.type, "other")
        if link is not None and listed and kind == "directory":
            kind = "link"
        described = {
            "name": name,
            "type": kind,
            "size": found.size if found.is_file else 0,
            "mode": found.st_mode,
            "uid": found.uid,
            "gid": found.gid,
            "mtime": found.mtime_ns / 1e9,
            "ino": found.inode,
            "islink": link is not None,
        }
        if link is not None:
            described["destination"] = link.linkname
        return described

    # -- reading -------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_type: str | None = None,
        cache_options: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401 (fsspec's)
    ) -> ImageFileReader | BlockwiseFile:
        """Return a file; with `cache_type`, one that reads blocks through that fsspec cache.

        Without `cache_type`, spans are fetched and `block_size` is ignored.
        """
        if mode != "rb":
            self._refuse(path)
        if cache_type is None:
            return ImageFileReader(self, self._inside(path))
        return BlockwiseFile(
            self,
            self._inside(path),
            block_size=block_size or self.blocksize,
            cache_type=cache_type,
            cache_options=cache_options,
        )

    def cat_file(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        **_: Any,  # noqa: ANN401 (fsspec's)
    ) -> bytes:
        """Return bytes ``[start, end)`` of a file; negative offsets count from its end."""
        (found,) = self._read_ranges([FileRange(self._inside(path), start, end)])
        if isinstance(found, Exception):
            raise found
        return found

    def cat(
        self,
        path: Any,  # noqa: ANN401 (a path or a list of them)
        recursive: bool = False,  # noqa: FBT001, FBT002 (fsspec's)
        on_error: str = "raise",
        **options: Any,  # noqa: ANN401 (fsspec's)
    ) -> Any:  # noqa: ANN401
        """Return the data of a file, or a dict of many files, as fsspec does, with few requests."""
        paths = self.expand_path(path, recursive=recursive)
        if len(paths) == 1 and not isinstance(path, list) and paths[0] == self._inside(path):
            return self.cat_file(paths[0], **options)
        files = [each for each in paths if not (recursive and self.isdir(each))]
        ranges = [
            FileRange(self._inside(each), options.get("start"), options.get("end"))
            for each in files
        ]
        return {
            each: found
            for each, found in zip(files, self._read_ranges(ranges, on_error), strict=True)
            if not (on_error == "omit" and isinstance(found, Exception))
        }

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,  # noqa: ANN401 (one for all, or a list)
        ends: Any,  # noqa: ANN401
        max_gap: int | None = None,  # ignored: spans decide what is fetched together
        on_error: str = "return",
        **_: Any,  # noqa: ANN401 (fsspec's)
    ) -> list[bytes | Exception]:
        """Return many ranges of files, read in the order of the layers, with few requests."""
        if not isinstance(paths, list):
            raise TypeError(f"paths: must be a list (found {type(paths).__name__})")
        starts, ends = (
            list(each) if isinstance(each, list | tuple) else [each] * len(paths)
            for each in (starts, ends)
        )
        if not len(paths) == len(starts) == len(ends):
            raise ValueError(
                "paths, starts and ends: lengths differ "
                f"(found {len(paths)}, {len(starts)} and {len(ends)})"
            )
        return self._read_ranges(
            [
                FileRange(self._inside(path), start, end)
                for path, start, end in zip(paths, starts, ends, strict=True)
            ],
            on_error,
        )

    def _read_ranges(
        self, ranges: list[FileRange], on_error: str = "return"
    ) -> list[bytes | Exception]:
        """Return the data or the error of each range.

        Raises:
            TocsinError, OSError: a file cannot be read, and `on_error` is ``raise``.
        """
        found: dict[int, bytes | Exception] = {}
        for number, data in read_ranges(self.image._merged, ranges):
            outcome = os_error(data, ranges[number].path) if is_path_error(data) else data
            if on_error == "raise" and isinstance(outcome, Exception):
                raise outcome
            found[number] = outcome
        return [found[number] for number in range(len(ranges))]

    # -- writing, which images do not support ----------------------------------------------------

    def _refuse(self, path: Any = None, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
        name = self.reference if path is None else path
        raise OSError(errno.EROFS, "images are read-only", str(name))

    mkdir = makedirs = makedir = mkdirs = rmdir = _refuse
    rm = rm_file = _rm = delete = touch = _refuse
    pipe = pipe_file = write_bytes = write_text = _refuse
    cp_file = copy = cp = mv = move = rename = _refuse

    def put(self, lpath: Any, rpath: Any, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401
        """Raise, since images are read-only."""
        self._refuse(rpath)

    put_file = upload = put


class _OpenedImage:
    """An image, opened by the first thread that needs it.

    Separate from the file system, since fsspec's file systems compare equal if their options do,
    and `forget_after_fork` must register each object.
    """

    def __init__(self, open_: Callable[[], Image]) -> None:
        self._open = open_
        self._image: Image | None = None
        self._lock = threading.Lock()
        forget_after_fork(self)

    def __call__(self) -> Image:
        with self._lock:
            if self._image is None:
                self._image = self._open()
            return self._image

    def close(self) -> None:
        with self._lock:
            image, self._image = self._image, None
        if image is not None:
            image.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


class _PathInImage(str):
    """A path from a URL that names its image."""

    __slots__ = ("image",)

    def __new__(cls, path: str, image: str) -> Self:
        made = super().__new__(cls, path)
        made.image = image
        return made

    image: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _PathInImage, (str(self), self.image)


def _image_and_path(text: str) -> tuple[str | None, str]:
    """Return the image and the path in a URL without ``tocsin://``."""
    if text.startswith("/"):  # only a path, since no reference begins with a slash
        return None, text
    image, path = split_path(text)
    return (None, text) if path is None else (image, path)


def _registry_options(
    *,
    ca_cert: StrPath | None,
    client_cert: StrPath | tuple[StrPath, StrPath] | None,
    insecure: bool,
    plain_http: bool | None,
    hosts_dir: StrPath | None,
    credentials_dropped: bool,
    **login: str | None,
) -> RegistryOptions | None:
    """Return the options for the registry; ``None`` if none are set."""
    given = (ca_cert, client_cert, insecure, hosts_dir, credentials_dropped, *login.values())
    if not (any(given) or plain_http is not None):
        return None
    from tocsin.stores.registry import RegistryOptions  # noqa: PLC0415 (not needed for layouts)

    return RegistryOptions(
        ca_cert=ca_cert,
        client_cert=client_cert,
        insecure=insecure,
        plain_http=plain_http,
        hosts_dir=hosts_dir,
        username=login["username"],
        password=login["password"],
        credentials_dropped=credentials_dropped,
    )

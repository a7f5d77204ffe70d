"""References to images, in the syntax of skopeo and podman.

================================  =========================================================
``docker://host/repo[:tag]``      a registry; also bare ``host/repo:tag``, ``repo@sha256:…``
``oci:DIR[:tag]``                 an OCI layout directory; also ``oci:DIR@sha256:…``
``oci-archive:FILE[:tag]``        a tar of such a layout
``docker-archive:FILE[:name]``    output of ``docker save``; also ``docker-archive:FILE:@N``
``containerd:[NAMESPACE/]name``   the store of containerd; also ``containerd:name@sha256:…``
================================  =========================================================

As in skopeo, the first ``:`` ends a path. A path inside an image is written ``IMAGE:/PATH``. The
last transport is tocsin's own; see `parse_containerd_name` for its namespace.

Source: containers/image, docs/containers-transports.5.md; distribution/reference, reference.go;
containerd/containerd, pkg/identifiers/validate.go.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.digest import Digest, digest_of
from tocsin.model.user_info import user_info, without_user_info
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_TAG = "latest"
DOCKER_HUB = "docker.io"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REF_NAME = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*"
)
_LAYOUT_DIGEST = re.compile(r"([^:]+)@(sha256:[^:]*)")
_TRANSPORT = re.compile(r"(?:dir|containers-storage|docker-daemon|ostree|sif|tarball|https?):")
_PREFIX = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*://|oci:|oci-archive:|docker-archive:|containerd:)?"
)
"""Transport of a reference, or scheme of a URL."""
_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*")
_MAX_NAMESPACE_LEN = 76
_KUBERNETES = "k8s.io"
"""The namespace of Kubernetes, which looks like a host name."""
_MAX_NAME_LEN = 255
_MAX_REF_NAME_LEN = 1024


@dataclass(frozen=True, slots=True)
class RegistryReference:
    """An image in a registry.

    Attributes:
        host: host name, with the port if given; ``docker.io`` by default.
        repository: includes ``library/`` for official images of Docker Hub.
        tag: ``None`` only if there is a digest.
        digest: takes precedence over the tag.
    """

    host: str
    repository: str
    tag: str | None = DEFAULT_TAG
    digest: Digest | None = None

    def __post_init__(self) -> None:
        _parse_field(self, "digest", digest_of)

    @property
    def selector(self) -> str | Digest | None:
        """The argument for `Source.resolve`."""
        return self.digest or self.tag

    @property
    def name(self) -> str:
        """Host, repository, tag and digest, without the transport."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"

    def __str__(self) -> str:
        return f"docker://{self.name}"


@dataclass(frozen=True, slots=True)
class LayoutReference:
    """An image in an OCI layout directory.

    Attributes:
        path: the directory.
        tag: the entry's ``org.opencontainers.image.ref.name``; may contain ``/`` and ``:``.
        digest: selects the image instead of a tag.
    """

    path: Path
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        _parse_field(self, "path", Path)
        _parse_field(self, "digest", digest_of)

    @property
    def selector(self) -> str | Digest | None:
        """The argument for `Source.resolve`."""
        return self.digest or self.tag

    def __str__(self) -> str:
        if self.digest:
            return f"oci:{self.path}@{self.digest}"
        return f"oci:{self.path}:{self.tag}" if self.tag else f"oci:{self.path}"


@dataclass(frozen=True, slots=True)
class OciArchiveReference:
    """An image in a tar of an OCI layout; attributes as in `LayoutReference`."""

    path: Path
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        _parse_field(self, "path", Path)
        _parse_field(self, "digest", digest_of)

    @property
    def selector(self) -> str | Digest | None:
        """The argument for `Source.resolve`."""
        return self.digest or self.tag

    def __str__(self) -> str:
        if self.digest:
            return f"oci-archive:{self.path}@{self.digest}"
        return f"oci-archive:{self.path}:{self.tag}" if self.tag else f"oci-archive:{self.path}"


@dataclass(frozen=True, slots=True)
class DockerArchiveReference:
    """An image in the output of ``docker save``.

    Attributes:
        path: the file.
        name: full name such as ``docker.io/library/x:1``; ``None`` if not given.
        position: position of the image in the archive, from 0; selects it instead of a name.
    """

    path: Path
    name: str | None = None
    position: int | None = None

    def __post_init__(self) -> None:
        _parse_field(self, "path", Path)

    @property
    def selector(self) -> str | None:
        """The argument for `Source.resolve`."""
        return self.name if self.position is None else f"@{self.position}"

    def __str__(self) -> str:
        return f"docker-archive:{self.path}" + (f":{self.selector}" if self.selector else "")


@dataclass(frozen=True, slots=True)
class ContainerdReference:
    """An image in the store of containerd.

    Attributes:
        name: full name with the tag, such as ``docker.io/library/x:1``; without the tag if only a
            digest is given.
        namespace: namespace of containerd; ``None`` for ``CONTAINERD_NAMESPACE``, or ``default``.
        digest: selects the image instead of a name.
    """

    name: str
    namespace: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        _parse_field(self, "digest", digest_of)
        if self.namespace is not None:
            check_namespace(self.namespace)

    @property
    def selector(self) -> str | Digest:
        """The argument for `Source.resolve`."""
        return self.digest or self.name

    @property
    def tag(self) -> str | None:
        """The tag of the name."""
        return self.name.rpartition("/")[2].partition(":")[2] or None

    def __str__(self) -> str:
        namespace = f"{self.namespace}/" if self.namespace else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"containerd:{namespace}{self.name}{digest}"


def _parse_field(reference: object, name: str, parse: Callable[[str], object]) -> None:
    """Parse a field of a frozen reference in place if it was given as text."""
    if isinstance(text := getattr(reference, name), str):
        object.__setattr__(reference, name, parse(text))


Reference: TypeAlias = (
    RegistryReference
    | LayoutReference
    | OciArchiveReference
    | DockerArchiveReference
    | ContainerdReference
)
"""A reference to an image."""

ReferenceLike: TypeAlias = str | os.PathLike[str] | Reference
"""An image as an argument of the public functions.

Either text in skopeo's syntax, such as ``ghcr.io/team/app:1`` or ``oci:DIR:TAG``; or the
`pathlib.Path` of an OCI layout directory, an OCI archive or a docker archive; or one of the five
reference classes.
"""


def parse_reference(text: str) -> Reference:
    """Parse a reference.

    Raises:
        FormatError: `text` is not a reference; `what` is ``reference``.
        UnsupportedError: another transport of skopeo, such as ``containers-storage:``.
    """
    _refuse_user_info(text)
    transport, colon, rest = text.partition(":")
    match transport if colon else "":
        case "oci":
            return LayoutReference(*_layout_parts(text, rest))
        case "oci-archive":
            return OciArchiveReference(*_layout_parts(text, rest))
        case "docker-archive":
            return _docker_archive(text, rest)
        case "containerd":
            return parse_containerd_name(rest)
        case "docker":
            if not rest.startswith("//"):
                raise _error(text, "expected // after docker:")
            return parse_registry_name(rest.removeprefix("//"))
    if other := _TRANSPORT.match(text):
        shown = quoted(without_user_info(text))
        raise UnsupportedError(
            f"reference {shown}: unsupported transport {other[0]} (expected docker://, oci:, "
            "oci-archive:, docker-archive: or containerd:)"
        )
    if text.startswith((".", "/", "~")):
        raise _error(
            text,
            "a path needs a transport",
            hint="Write oci:DIR for a layout directory, or oci-archive:FILE for an archive.",
        )
    return parse_registry_name(text)


def split_path(text: str) -> tuple[str, str | None]:
    """Split ``IMAGE:/PATH`` into the reference and the path inside the image.

    After its transport, a reference never contains ``:/``, so the first ``:/`` ends it. A path may
    contain more of them.

    Returns:
        (reference, path): unparsed; the path starts with ``/``, or is ``None`` if missing.
    """
    prefix = _PREFIX.match(text)
    end = text.find(":/", prefix.end() if prefix is not None else 0)
    return (text, None) if end < 0 else (text[:end], text[end + 1 :])


def parse_registry_name(text: str) -> RegistryReference:
    """Parse ``[host/]repo[:tag][@digest]`` with the defaults of Docker.

    Raises:
        FormatError: `text` is not such a name; `what` is ``reference``.
    """
    _refuse_user_info(text)
    rest, at, digest_text = text.partition("@")
    digest = _digest(text, digest_text) if at else None
    host, slash, path = rest.partition("/")
    if not slash or not (
        any(c in host for c in ".:[") or host == "localhost" or host != host.lower()
    ):
        host, path = DOCKER_HUB, rest
    if host == "index.docker.io":
        host = DOCKER_HUB
    repository, colon, tag = path.partition(":")
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _HOST.fullmatch(host):
        raise _error(text, f"invalid host name {quoted(host, limit=80)}")
    if not _REPOSITORY.fullmatch(repository) or re.fullmatch(r"library/[0-9a-f]{64}", repository):
        shown = quoted(repository, limit=80)
        raise _error(
            text, f"invalid repository {shown} (expected lower-case letters, digits and . - _ /)"
        )
    if len(host) + 1 + len(repository) > _MAX_NAME_LEN:
        raise _error(text, f"the name is longer than {_MAX_NAME_LEN} characters")
    if colon and not _TAG.fullmatch(tag):
        raise _error(text, f"invalid tag {quoted(tag, limit=80)}")
    if not colon:
        return RegistryReference(host, repository, None if digest else DEFAULT_TAG, digest)
    return RegistryReference(host, repository, tag, digest)


def parse_containerd_name(text: str) -> ContainerdReference:
    """Parse ``[NAMESPACE/]name[:tag][@digest]``, with the defaults of Docker for the name.

    The first component is a namespace if it cannot be a host, because it contains neither ``.`` nor
    ``:`` and is not ``localhost``. ``k8s.io`` is one too, since it is not a registry. Another
    namespace with a dot can only be set with ``CONTAINERD_NAMESPACE``.

    Raises:
        FormatError: `text` is not such a name; `what` is ``reference``.
    """
    first, slash, rest = text.partition("/")
    namespace = None
    if slash and (first == _KUBERNETES or not (re.search("[.:@[]", first) or first == "localhost")):
        namespace, text = first, rest
    parsed = parse_registry_name(text)
    tag = f":{parsed.tag}" if parsed.tag else ""
    name = f"{parsed.host}/{parsed.repository}{tag}"
    return ContainerdReference(name, namespace, parsed.digest)


def check_namespace(namespace: str) -> str:
    """Return `namespace` if it is a valid name of a namespace of containerd.

    Raises:
        FormatError: it is not; `what` is ``reference``.
    """
    if len(namespace) > _MAX_NAMESPACE_LEN or not _NAMESPACE.fullmatch(namespace):
        raise FormatError(
            f"invalid namespace {quoted(namespace, limit=80)} (expected letters and digits "
            f"separated by one of -._, at most {_MAX_NAMESPACE_LEN} characters)",
            what="reference",
        )
    return namespace


def check_ref_name(tag: str) -> str:
    """Return `tag` if it is a valid name of an image in an OCI layout.

    Raises:
        FormatError: it is not; `what` is ``reference``.
    """
    if len(tag) > _MAX_REF_NAME_LEN or not _REF_NAME.fullmatch(tag):
        raise FormatError(
            f"invalid tag {quoted(tag, limit=80)} (expected letters and digits separated by one of "
            "-._:@+/)",
            what="reference",
        )
    return tag


def _layout_parts(text: str, rest: str) -> tuple[Path, str | None, Digest | None]:
    if by_digest := _LAYOUT_DIGEST.fullmatch(rest):
        return _path(text, by_digest[1]), None, _digest(text, by_digest[2])
    path, _, tag = rest.partition(":")
    return _path(text, path), check_ref_name(tag) if tag else None, None


def _docker_archive(text: str, rest: str) -> DockerArchiveReference:
    path, _, name = rest.partition(":")
    _refuse_user_info(name)
    if not name:
        return DockerArchiveReference(_path(text, path))
    if name.startswith("@"):
        position = name.removeprefix("@")
        if not re.fullmatch(r"[0-9]{1,6}", position):
            raise _error(text, f"invalid position {quoted(name, limit=20)} (expected @0, @1, …)")
        return DockerArchiveReference(_path(text, path), position=int(position))
    reference = parse_registry_name(name)
    if reference.digest:
        raise _error(text, "an image in a docker archive cannot be selected by digest")
    return DockerArchiveReference(_path(text, path), reference.name)


def _path(text: str, path: str) -> Path:
    if not path or "\0" in path:
        raise _error(text, "expected a path after the transport")
    return Path(path)


def _digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except FormatError as error:
        raise _error(text, error.message) from None


def _refuse_user_info(text: str) -> None:
    if user_info(text) is not None and not _TRANSPORT.match(text):
        raise _error(
            text,
            "the text after @ is not a digest, and a reference cannot contain a password",
            hint="Log in with docker login or podman login, or pass --username and"
            " --password-stdin.",
        )


def _error(text: str, problem: str, hint: str | None = None) -> FormatError:
    shown = quoted(without_user_info(text))
    return FormatError(f"reference {shown}: {problem}", what="reference", hint=hint)

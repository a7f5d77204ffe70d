"""Parameter types for click: functions from the text of an argument to its value."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.digest import Digest
    from tocsin.model.platform import Platform
    from tocsin.model.reference import Reference
    from tocsin.mounting.containerd_version import Version

_SIZE = re.compile(r"([0-9]{1,19})\s*([kmgt]?)(b|ib|)", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")
_MAX_SIZE = (1 << 63) - 1


def size(text: str) -> int:
    """Return a number of bytes: ``4194304``, ``4MiB``, ``4M`` (the same), ``4MB`` (4,000,000)."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or (found[3].lower() == "ib" and not found[2]):
        raise click.BadParameter(f"{text!r} is not a size (expected, for example, 4194304 or 4MiB)")
    base = 1000 if found[3].lower() == "b" else 1024
    byte_count: int = int(found[1]) * base ** _UNITS.index(found[2].upper())
    if byte_count > _MAX_SIZE:
        raise click.BadParameter(f"size too large (found {text!r}, expected less than 8 EiB)")
    return byte_count


def platform(text: str) -> Platform:
    """Return a platform: ``linux/arm64``, ``linux/arm/v7``."""
    from tocsin.model.platform import Platform  # noqa: PLC0415 (commands load as they run)

    try:
        return Platform.parse(text)
    except FormatError as error:
        raise click.BadParameter(error.message) from None


def platforms(text: str) -> tuple[Platform, ...]:
    """Return the platforms of a comma-separated list: ``linux/amd64,linux/arm64``."""
    return tuple(platform(one.strip()) for one in text.split(","))


class BadReferenceError(click.BadParameter):
    """An argument that is not a reference.

    Attributes:
        hint: what to do about it, if known.
    """

    def __init__(self, message: str, *, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


def reference(text: str) -> Reference:
    """Return the reference of an image, such as ``oci:DIR:TAG`` or ``host/repo:tag``."""
    from tocsin.model.reference import RegistryReference, parse_reference  # noqa: PLC0415

    try:
        found = parse_reference(text)
    except FormatError as error:
        raise BadReferenceError(error.message, hint=error.hint) from None
    if isinstance(found, RegistryReference):
        _refuse_path(text)
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """An image, or a path in an image.

    Attributes:
        reference: reference of the image.
        path: path in the image; ``None`` if only the image was given.
    """

    reference: Reference
    path: str | None


def place(text: str) -> Place:
    """Return the image, and the path if there is one, of ``IMAGE`` or ``IMAGE:/PATH``."""
    from tocsin.model.reference import split_path  # noqa: PLC0415

    image, path = split_path(text)
    return Place(reference(image), path)


def digest(text: str) -> Digest:
    """Return a digest: ``sha256:`` and 64 hexadecimal digits."""
    from tocsin.model.digest import Digest  # noqa: PLC0415 (commands load as they run)

    try:
        return Digest.parse(text)
    except (FormatError, UnsupportedError) as error:
        raise click.BadParameter(error.message) from None


def index_choice(text: str) -> str:
    """Return the choice of SOCI indexes as text, after checking it with `IndexChoice`."""
    from tocsin.model.index_choice import IndexChoice  # noqa: PLC0415

    try:
        IndexChoice.parse(text)
    except (FormatError, UnsupportedError) as error:
        raise click.BadParameter(error.message) from None
    return text


def seconds(text: str) -> float:
    """Return a number of seconds greater than 0, such as ``30``, ``0.5`` or ``30s``."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise click.BadParameter(
            f"{text!r} is not a number of seconds (expected, for example, 30 or 0.5)"
        )
    return value


def size_test(text: str) -> Callable[[int], bool]:
    """Return the predicate for ``+SIZE`` (more), ``-SIZE`` (less) or ``SIZE`` (exactly)."""
    limit = size(text.lstrip("+-") if text[1:2] not in ("+", "-") else text)
    if text.startswith("+"):
        return lambda byte_count: byte_count > limit
    if text.startswith("-"):
        return lambda byte_count: byte_count < limit
    return lambda byte_count: byte_count == limit


def client_certificate(text: str) -> Path | tuple[Path, Path]:
    """Return a file with certificate and key, or two files given as ``cert.pem,key.pem``."""
    certificate, comma, key = text.partition(",")
    if not certificate or (comma and not key):
        raise click.BadParameter(f"incomplete (found {text!r}, expected FILE or CERT,KEY)")
    for name in (certificate, key):
        if name and not Path(name).is_file():
            raise click.BadParameter(f"{name!r} is not an existing file")
    return (Path(certificate), Path(key)) if comma else Path(certificate)


def containerd_version(text: str) -> Version:
    """Return a version of containerd, such as ``1.7`` or ``2``."""
    from tocsin.mounting.containerd_version import OLDEST, parsed_version  # noqa: PLC0415 (rare)

    version = parsed_version(text)
    if version is None:
        raise click.BadParameter(f"not a version of containerd (found {text!r})")
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise click.BadParameter(f"too old (found {text!r}, expected at least {oldest})")
    return version


def _refuse_path(text: str) -> None:
    """Refuse an image name that is the path of an existing file or directory."""
    path = Path(text.partition(":")[0])
    if not text.startswith("docker:") and path.exists():
        kind = "oci:" if path.is_dir() else "oci-archive:"
        raise click.BadParameter(
            f"{text!r} names an image in a registry; did you mean {kind}{text}?"
        )

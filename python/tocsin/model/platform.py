"""Platforms: the operating system and CPU that an image is built for.

Parsing, normalization and strict matching follow containerd. The platform of a SOCI entry is
written as the user requested it, so it affects the digest of the converted image.

Source: docs/format.md#converted-images; containerd/platforms, platforms.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError
from tocsin.model.go_json import omit_empty
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.fields import Fields
    from tocsin.model.go_json import Json

_PART = re.compile(r"[A-Za-z0-9_.-]+")
_OS_PART = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]+)\))?")
_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"}
    | {"ppc64", "ppc64le", "riscv64", "s390x", "wasm"}
)


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and a CPU architecture.

    Attributes:
        os: Go's name, such as ``linux``.
        architecture: Go's name, such as ``arm64``.
        variant: CPU variant, such as ``v8``; usually empty.
        os_version: exact version, used for Windows.
        os_features: required features, used for Windows.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``os/arch[/variant]``, or a known ``arch`` alone for linux.

        The result keeps what the user wrote: ``linux/arm64`` and ``linux/arm`` have no variant,
        ``linux/arm64/v8`` has ``v8``. Only aliases are replaced: ``x86_64`` becomes amd64.

        Raises:
            FormatError: `text` is not a platform.
        """
        parts = text.split("/")
        if len(parts) == 1 and _architecture(text, "")[0] in _ARCHITECTURES:
            parts = ["linux", text]
        os = _OS_PART.fullmatch(parts[0])
        if os is None or len(parts) not in (2, 3) or not all(map(_PART.fullmatch, parts[1:])):
            raise FormatError(
                f"invalid platform {quoted(text, limit=80)} (expected os/arch or os/arch/variant, "
                "such as linux/arm64)",
                what="platform",
            )
        architecture, variant = _architecture(parts[1], "".join(parts[2:]))
        if len(parts) == 2 and (architecture, variant) == ("arm", "v7"):  # noqa: PLR2004 (os, arch)
            variant = ""
        elif len(parts) == 3 and (architecture, variant) == ("arm64", ""):  # noqa: PLR2004
            variant = "v8"
        return cls(_os(os[1]), architecture, variant, os[2] or "")

    def normalized(self) -> Self:
        """Return the canonical form: arm64 without the variant ``v8``, arm with ``v7``."""
        architecture, variant = _architecture(self.architecture, self.variant)
        return replace(
            self,
            os=_os(self.os),
            architecture=architecture,
            variant=variant,
            os_features=tuple(sorted(set(self.os_features))),
        )

    def matches(self, other: str | Platform) -> bool:
        """Return whether an image for `other` satisfies a request for `self`.

        Matching is strict: ``arm/v7`` does not match an image for ``arm/v6``. The OS version must
        be equal if `self` has one.
        """
        mine, theirs = self.normalized(), platform_of(other).normalized()
        return (mine.os, mine.architecture, mine.variant) == (
            theirs.os,
            theirs.architecture,
            theirs.variant,
        ) and mine.os_version in ("", theirs.os_version)

    @property
    def unknown(self) -> bool:
        """Whether this marks something that cannot run, such as a BuildKit attestation."""
        return "unknown" in (self.os, self.architecture)

    def __str__(self) -> str:
        version = f"({self.os_version})" if self.os_version else ""
        return "/".join(
            part for part in (self.os + version, self.architecture, self.variant) if part
        )


def platform_of(given: str | Platform) -> Platform:
    """Return a platform given as a `Platform` or as text.

    Raises:
        FormatError: the text is not a platform.
        TypeError: `given` has another type.
    """
    if isinstance(given, str):
        return Platform.parse(given)
    if not isinstance(given, Platform):
        raise TypeError(f"platform is {type(given).__name__}, expected str such as 'linux/amd64'")
    return given


def platforms_of(given: str | Platform | Iterable[str | Platform]) -> tuple[Platform, ...]:
    """Return one or several platforms, each given as a `Platform` or as text, as a tuple.

    Raises:
        FormatError: a text is not a platform.
        ValueError: `given` is empty.
        TypeError: an element has another type.
    """
    if isinstance(given, str | Platform):
        return (platform_of(given),)
    platforms = tuple(platform_of(each) for each in given)
    if not platforms:
        raise ValueError("platforms is empty, expected at least one, or None for all")
    return platforms


def read_platform(fields: Fields) -> Platform:
    """Return the platform in a descriptor or an image config, without normalization."""
    return Platform(
        os=fields.text("os"),
        architecture=fields.text("architecture"),
        variant=fields.text("variant"),
        os_version=fields.text("os.version"),
        os_features=fields.texts("os.features"),
    )


def write_platform(platform: Platform) -> dict[str, Json]:
    """Return the fields with their OCI names, in the order in which Go writes them."""
    return omit_empty(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "os.version": platform.os_version,
            "os.features": platform.os_features,
            "variant": platform.variant,
        },
        "os.version",
        "os.features",
        "variant",
    )


def _os(name: str) -> str:
    lower = name.lower()
    return "darwin" if lower == "macos" else lower


_ARCHITECTURE_NAMES = {
    "i386": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
}
_FIXED_VARIANTS = {"i386": "", "armhf": "v7", "armel": "v6"}
_VARIANTS = {
    ("amd64", "v1"): "",
    ("arm64", "8"): "",
    ("arm64", "v8"): "",
    ("arm", ""): "v7",
    ("arm", "7"): "v7",
    ("arm", "5"): "v5",
    ("arm", "6"): "v6",
    ("arm", "8"): "v8",
}


def _architecture(name: str, variant: str) -> tuple[str, str]:
    name, variant = name.lower(), variant.lower()
    architecture = _ARCHITECTURE_NAMES.get(name, name)
    variant = _FIXED_VARIANTS.get(name, variant)
    return architecture, _VARIANTS.get((architecture, variant), variant)

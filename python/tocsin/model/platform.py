"""Platforms: which machine an image is for.

Parsing, normalising and strict matching follow containerd, since the platform of a SOCI entry is
written as the user asked for it and so is part of the converted image's digest.

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
    """An operating system and a processor.

    Attributes:
        os: Go's name, such as ``linux``.
        architecture: Go's name, such as ``arm64``.
        variant: of the processor, such as ``v8``; mostly empty.
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
        """Return the platform that ``os/arch[/variant]``, or a known ``arch`` of linux, spells.

        Written as asked for: ``linux/arm64`` has no variant, ``linux/arm64/v8`` has ``v8``,
        ``linux/arm`` has none, and ``linux/x86_64`` is amd64.

        Raises:
            FormatError: `text` is no platform.
        """
        parts = text.split("/")
        if len(parts) == 1 and _architecture(text, "")[0] in _ARCHITECTURES:
            parts = ["linux", text]
        os = _OS_PART.fullmatch(parts[0])
        if os is None or len(parts) not in (2, 3) or not all(map(_PART.fullmatch, parts[1:])):
            raise FormatError(
                f"platform {quoted(text, limit=80)}: wanted os/arch or os/arch/variant, such as "
                "linux/arm64",
                what="platform",
            )
        architecture, variant = _architecture(parts[1], "".join(parts[2:]))
        if len(parts) == 2 and (architecture, variant) == ("arm", "v7"):  # noqa: PLR2004 (os, arch)
            variant = ""
        elif len(parts) == 3 and (architecture, variant) == ("arm64", ""):  # noqa: PLR2004
            variant = "v8"
        return cls(_os(os[1]), architecture, variant, os[2] or "")

    def normalized(self) -> Self:
        """Return the platform under its canonical names: arm64 has no ``v8``, arm has ``v7``."""
        architecture, variant = _architecture(self.architecture, self.variant)
        return replace(
            self,
            os=_os(self.os),
            architecture=architecture,
            variant=variant,
            os_features=tuple(sorted(set(self.os_features))),
        )

    def matches(self, other: str | Platform) -> bool:
        """Return whether an image for `other` is exactly what `self` asks for.

        Strict: ``arm/v7`` does not match an image for ``arm/v6``. An OS version that `self` names
        must be equal; one that it does not name may be any.
        """
        mine, theirs = self.normalized(), platform_of(other).normalized()
        return (mine.os, mine.architecture, mine.variant) == (
            theirs.os,
            theirs.architecture,
            theirs.variant,
        ) and mine.os_version in ("", theirs.os_version)

    @property
    def unknown(self) -> bool:
        """Whether this marks something that runs nowhere, such as a BuildKit attestation."""
        return "unknown" in (self.os, self.architecture)

    def __str__(self) -> str:
        version = f"({self.os_version})" if self.os_version else ""
        return "/".join(
            part for part in (self.os + version, self.architecture, self.variant) if part
        )


def platform_of(given: str | Platform) -> Platform:
    """Return a platform that was given as such or as text.

    Raises:
        FormatError: the text is no platform.
        TypeError: it is neither.
    """
    if isinstance(given, str):
        return Platform.parse(given)
    if not isinstance(given, Platform):
        raise TypeError(f"platform: got {type(given).__name__}, wanted text such as 'linux/amd64'")
    return given


def platforms_of(given: str | Platform | Iterable[str | Platform]) -> tuple[Platform, ...]:
    """Return platforms that were given in any of these ways; one by itself stands for a list of it.

    Raises:
        FormatError: a text is no platform.
        ValueError: there is none.
        TypeError: something else was given.
    """
    if isinstance(given, str | Platform):
        return (platform_of(given),)
    platforms = tuple(platform_of(each) for each in given)
    if not platforms:
        raise ValueError("platforms is empty, wanted one or more, or None for all")
    return platforms


def read_platform(fields: Fields) -> Platform:
    """Return the platform of a descriptor or an image config, exactly as written there."""
    return Platform(
        os=fields.text("os"),
        architecture=fields.text("architecture"),
        variant=fields.text("variant"),
        os_version=fields.text("os.version"),
        os_features=fields.texts("os.features"),
    )


def write_platform(platform: Platform) -> dict[str, Json]:
    """Return the fields as OCI names them, in the order Go writes them."""
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

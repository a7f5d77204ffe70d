"""What a plan is made of: references of images, and patterns for repositories and tags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.reference import RegistryReference, parse_reference
from tocsin.model.user_info import without_user_info
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tocsin.model.digest import Digest
    from tocsin.model.entry_path import StrPath

MAX_LIST_SIZE = 256 << 20
"""Maximum bytes of a list of images."""
_GLOB = re.compile(r"[*?\[]")
_REFERRERS_TAG = re.compile(r"sha256-[0-9a-f]{64}")
_PREFIX = "docker://"


@dataclass(frozen=True, slots=True)
class Selection:
    """Images of one repository.

    Attributes:
        repository: ``HOST/REPO``.
        tags: patterns for its tags; each names one tag if it has no wildcard.
        digests: digests of images.
    """

    repository: str
    tags: tuple[str, ...] = ()
    digests: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pattern:
    """``HOST/REPO:TAG``, with wildcards in the last two."""

    host: str
    repository: str
    tag: str


def read_list(path: StrPath) -> list[str]:
    """Return the sources in a file, one per line, without empty lines and lines that start with #.

    Raises:
        FormatError: the file is too large or not UTF-8; `what` is ``list``.
        OSError: the file cannot be read.
    """
    place = Path(path)
    with place.open("rb") as file:
        data = file.read(MAX_LIST_SIZE + 1)
    if len(data) > MAX_LIST_SIZE:
        raise FormatError(f"{place}: list larger than {MAX_LIST_SIZE} bytes", what="list")
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise FormatError(f"{place}: list is not UTF-8", what="list") from None
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def selections(
    sources: Iterable[str], list_repositories: Callable[[str], list[str]]
) -> list[Selection]:
    """Return the images that `sources` name, grouped by repository in the order of the sources.

    Args:
        sources: references such as ``ghcr.io/team/app:1``, or patterns such as
            ``registry:5000/team/*:v*``.
        list_repositories: returns the repositories of a host; called once for each host that has
            a pattern for repositories.

    Raises:
        FormatError: a source is neither a reference nor a pattern; `what` is ``reference``.
        UnsupportedError: a source is not an image in a registry.
    """
    found: dict[str, tuple[list[str], list[Digest]]] = {}
    catalogs: dict[str, list[str]] = {}
    for source in sources:
        parsed = _parsed(source)
        if isinstance(parsed, RegistryReference):
            tags, digests = found.setdefault(f"{parsed.host}/{parsed.repository}", ([], []))
            if parsed.digest is not None:
                digests.append(parsed.digest)
            else:
                assert parsed.tag is not None  # noqa: S101 (one of both is given)
                tags.append(parsed.tag)
            continue
        for repository in _matching(parsed, catalogs, list_repositories):
            found.setdefault(f"{parsed.host}/{repository}", ([], []))[0].append(parsed.tag)
    return [
        Selection(name, tuple(dict.fromkeys(tags)), tuple(dict.fromkeys(digests)))
        for name, (tags, digests) in found.items()
    ]


def is_pattern(text: str) -> bool:
    """Return whether a text has a wildcard."""
    return _GLOB.search(text) is not None


def matching_tags(pattern: str, tags: Iterable[str]) -> Iterator[str]:
    """Yield the tags that match a pattern; tags of the referrers tag schema never do."""
    for tag in tags:
        if fnmatchcase(tag, pattern) and not _REFERRERS_TAG.fullmatch(tag):
            yield tag


def is_excluded(name: str, patterns: Iterable[str]) -> bool:
    """Return whether ``HOST/REPO:TAG`` matches one of `patterns`; one without a tag matches all."""
    repository = name.rpartition(":")[0]
    return any(
        fnmatchcase(name, pattern) or fnmatchcase(repository, pattern) for pattern in patterns
    )


def _matching(
    pattern: _Pattern,
    catalogs: dict[str, list[str]],
    list_repositories: Callable[[str], list[str]],
) -> list[str]:
    if not is_pattern(pattern.repository):
        return [pattern.repository]
    if pattern.host not in catalogs:
        catalogs[pattern.host] = list_repositories(pattern.host)
    return [name for name in catalogs[pattern.host] if fnmatchcase(name, pattern.repository)]


def _parsed(source: str) -> RegistryReference | _Pattern:
    if not is_pattern(source):
        reference = parse_reference(source)
        if not isinstance(reference, RegistryReference):
            raise UnsupportedError(
                f"{reference}: not an image in a registry", hint="Index it with tocsin create."
            )
        return reference
    host, slash, rest = source.removeprefix(_PREFIX).partition("/")
    repository, colon, tag = rest.partition(":")
    if not slash or not repository or (colon and not tag) or "@" in source or is_pattern(host):
        shown = quoted(without_user_info(source))
        raise FormatError(
            f"pattern {shown}: expected HOST/REPOSITORY or HOST/REPOSITORY:TAG, with wildcards "
            "only in the repository and the tag",
            what="reference",
        )
    # A name that must be valid, with a letter in place of the wildcards.
    parse_reference(f"{_PREFIX}{host}/x")
    if not is_pattern(repository):
        parse_reference(f"{_PREFIX}{host}/{repository}")
    return _Pattern(host, repository, tag or "*")

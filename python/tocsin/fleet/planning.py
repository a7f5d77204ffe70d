"""``plan``: finds the images of a fleet, their unique layers, and the zTOCs that exist already."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tocsin.errors import NotFoundError, TocsinError, UnsupportedError
from tocsin.fleet.connections import connections, keeping_connections
from tocsin.fleet.plans import Plan, PlannedImage, PlannedLayer
from tocsin.fleet.sources import Selection, is_excluded, is_pattern, matching_tags, selections
from tocsin.images.selection import platform_images, resolve_image
from tocsin.images.soci_indexes import listed_indexes, load_soci_index, referring_indexes
from tocsin.indexing.layer_jobs import is_prefetch_artifact, layer_key
from tocsin.indexing.layer_rules import skip_reason
from tocsin.indexing.options import IndexingOptions
from tocsin.model.media_types import is_index
from tocsin.model.reference import parse_registry_name
from tocsin.stores.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.images.selection import PlatformImage
    from tocsin.indexing.layer_jobs import LayerKey
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.model.soci_index import SociIndex
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions

DEFAULT_PLANNING_JOBS = 8
"""Repositories to read at the same time; planning waits for the network nearly all the time."""
ALREADY_INDEXED = "already has SOCI indexes"
_TAGS_PER_TASK = 50
"""Tags of one repository that one thread looks at, so that a large repository is shared."""


def plan(
    sources: str | Iterable[str],
    *,
    options: IndexingOptions | None = None,
    exclude: str | Iterable[str] = (),
    convert_suffix: str = "",
    force: bool = False,
    jobs: int = DEFAULT_PLANNING_JOBS,
    registry: RegistryOptions | None = None,
) -> Plan:
    """Plan the indexing of many images: read their manifests, but no layers, and write nothing.

    Images that cannot be indexed stay in the plan, with the reason.

    Args:
        sources: references of images in registries, such as ``ghcr.io/team/app:1``; or patterns
            with ``*``, ``?`` and ``[…]`` for repositories and tags, such as
            ``registry:5000/team/*:v*``. ``*`` also matches ``/``. A pattern without a tag means
            all tags. A pattern for repositories requires that the registry lists its repositories.
        options: indexing options; `rebuild` ignores existing indexes and zTOCs.
        exclude: patterns for ``HOST/REPO:TAG`` or ``HOST/REPO`` to leave out.
        convert_suffix: if given, images are converted, as by ``convert``, to an image with this
            suffix added to the tag; otherwise, indexes are created, as by ``create``.
        force: replace different images at the destinations of converted images.
        jobs: number of threads that read manifests.
        registry: options for access to registries.

    Raises:
        FormatError: a source is not valid.
        UnsupportedError: an option is not supported, or a registry does not list its repositories.
        RegistryError: a registry rejected a request, and no image was found.
        ValueError: `sources` is empty, or `jobs` is out of range.
    """
    options = options or IndexingOptions()
    _check(options)
    if jobs < 1:
        raise ValueError(f"jobs: out of range (found {jobs}, expected at least 1)")
    listed = [sources] if isinstance(sources, str) else list(sources)
    if not listed:
        raise ValueError("sources: empty (expected at least one image or pattern)")
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    with (
        connections() as kept,
        ThreadPoolExecutor(jobs, thread_name_prefix="plan") as pool,
    ):
        registry = keeping_connections(registry, kept)
        planner = _Planner(options, excluded, convert_suffix, registry)
        chosen = selections(listed, planner.repositories)
        parts = [part for parts in pool.map(planner.parts_of, chosen) for part in parts]
        found = [image for images in pool.map(planner.images_of, parts) for image in images]
    if planner.failures and all(image.failed for image in found):
        raise planner.failures[0]
    return _joined(found, options, force=force)


def _check(options: IndexingOptions) -> None:
    given = {
        "seek": options.seek,
        "prefetch": options.prefetch,
        "reference_identical": options.reference_identical,
    }
    for name, value in given.items():
        if value:
            raise UnsupportedError(
                f"{name}: not supported for a fleet", hint="Index these images with tocsin create."
            )


@dataclass(slots=True)
class _Found:
    """An image, and what its repository has.

    Attributes:
        image: the image, without its layers.
        layers: its layers.
        skipped: why each of them gets no zTOC.
        ztocs: existing zTOCs of these layers.
        failed: whether a registry failed.
    """

    image: PlannedImage
    layers: list[Descriptor] = field(default_factory=list)
    skipped: dict[LayerKey, str] = field(default_factory=dict)
    ztocs: dict[LayerKey, Descriptor] = field(default_factory=dict)
    failed: bool = False


class _Planner:
    """Reads manifests; may be used by several threads."""

    def __init__(
        self,
        options: IndexingOptions,
        excluded: tuple[str, ...],
        suffix: str,
        registry: RegistryOptions,
    ) -> None:
        self._options = options
        self._excluded = excluded
        self._suffix = suffix
        self._registry = registry
        self.failures: list[TocsinError] = []

    def repositories(self, host: str) -> list[str]:
        """Return the repositories of a registry."""
        # Importing the requests library is slow.
        from tocsin.stores.registry import list_repositories  # noqa: PLC0415

        return list_repositories(host, self._registry)

    def parts_of(self, selection: Selection) -> list[Selection | _Found]:
        """Return parts of a selection without wildcards, or an image that explains the failure."""
        repository = selection.repository
        tags = [tag for tag in selection.tags if not is_pattern(tag)]
        patterns = [tag for tag in selection.tags if is_pattern(tag)]
        if patterns:
            try:
                with self._open(repository) as store:
                    present = store.tags()
            except TocsinError as error:
                return [self._failed(PlannedImage(repository, ""), error)]
            for pattern in patterns:
                tags += [tag for tag in matching_tags(pattern, present) if not self._is_ours(tag)]
        wanted = [
            tag
            for tag in dict.fromkeys(tags)
            if not is_excluded(f"{repository}:{tag}", self._excluded)
        ]
        digests = () if is_excluded(f"{repository}:", self._excluded) else selection.digests
        parts: list[Selection | _Found] = [
            Selection(repository, tuple(wanted[at : at + _TAGS_PER_TASK]))
            for at in range(0, len(wanted), _TAGS_PER_TASK)
        ]
        if digests:
            parts.append(Selection(repository, (), digests))
        return parts

    def images_of(self, part: Selection | _Found) -> list[_Found]:
        """Return the images of a selection without wildcards."""
        if isinstance(part, _Found):
            return [part]
        found: list[_Found] = []
        with self._open(part.repository) as store:
            chosen: tuple[str | Digest, ...] = (*part.tags, *part.digests)
            for selector in chosen:
                tags = (selector,) if isinstance(selector, str) else ()
                image = PlannedImage(part.repository, "", tags, self._destination(part, tags))
                try:
                    found.append(self._image(store, image, selector))
                except TocsinError as error:
                    found.append(self._failed(image, error))
        return found

    def _is_ours(self, tag: str) -> bool:
        """Return whether a tag names a converted image of an earlier run."""
        return bool(self._suffix) and tag.endswith(self._suffix)

    def _destination(self, part: Selection, tags: tuple[str, ...]) -> str:
        return f"{part.repository}:{tags[0]}{self._suffix}" if self._suffix and tags else ""

    def _open(self, repository: str) -> Source:
        return open_source(parse_registry_name(repository), registry=self._registry)

    def _failed(self, image: PlannedImage, error: TocsinError) -> _Found:
        self.failures.append(error)
        skipped = PlannedImage(image.repository, "", image.tags, skipped=error.message)
        return _Found(skipped, failed=not isinstance(error, UnsupportedError))

    def _image(self, store: Source, image: PlannedImage, selector: str | Digest) -> _Found:
        target = store.resolve(selector, will_read=True)
        pinned = target.digest
        if is_index(target.media_type):  # it may list only another index
            target = resolve_image(store, pinned)
        if self._suffix and not image.tags:
            raise UnsupportedError(
                f"{store.name}: {target.digest}: an image that is converted must be given by tag"
            )
        images = platform_images(
            store,
            target,
            self._options.platforms,
            nested=not self._suffix,
            indexing=True,
        )
        found = _Found(replace(image, digest=str(pinned)))
        for layer in _layers(images):
            found.layers.append(layer)
            reason = skip_reason(store, layer, self._options)
            if reason is not None:
                found.skipped[layer_key(layer)] = reason
        is_indexed = True
        for each in images:
            indexes = [] if self._options.rebuild else list(self._indexes(store, each))
            _add_ztocs(found, indexes, self._options.span_size)
            is_indexed = is_indexed and bool(indexes)
        if self._suffix and not self._options.rebuild:
            _add_ztocs(found, self._converted(store, image), self._options.span_size)
        if not found.layers:
            found.image = replace(found.image, skipped="nothing to index: the image has no layers")
        elif all(layer_key(layer) in found.skipped for layer in found.layers):
            reasons = ", ".join(sorted(set(found.skipped.values()))[:3])
            found.image = replace(found.image, skipped=f"nothing to index: {reasons}")
        elif is_indexed and not self._suffix:
            found.image = replace(found.image, skipped=ALREADY_INDEXED)
        return found

    def _indexes(self, store: Source, image: PlatformImage) -> Iterator[SociIndex]:
        for referrer in referring_indexes(store, image.descriptor.digest):
            loaded = load_soci_index(store, 1, referrer.digest, referrer)
            if loaded.soci_index is not None:
                yield loaded.soci_index

    def _converted(self, store: Source, image: PlannedImage) -> Iterator[SociIndex]:
        tag = image.destination.rpartition(":")[2]
        try:
            target = store.resolve(tag)
        except NotFoundError:
            return
        for entry in listed_indexes(store, target):
            loaded = load_soci_index(store, 2, entry.digest, entry)
            if loaded.soci_index is not None:
                yield loaded.soci_index


def _layers(images: Iterable[PlatformImage]) -> list[Descriptor]:
    layers = {
        layer_key(layer): layer.plain()
        for image in images
        for layer in image.manifest.layers or ()
        if not is_prefetch_artifact(layer)
    }
    return list(layers.values())


def _add_ztocs(found: _Found, indexes: Iterable[SociIndex], span_size: int) -> None:
    for index in indexes:
        for layer in found.layers:
            ztoc = index.ztoc_of(layer.digest, span_size=span_size)
            if ztoc is not None:
                found.ztocs.setdefault(layer_key(layer), ztoc.plain())


def _joined(found: list[_Found], options: IndexingOptions, *, force: bool) -> Plan:
    """Return the plan: tags of one digest become one image, and layers are listed once."""
    ztocs: dict[LayerKey, tuple[Descriptor, str]] = {}
    for each in found:
        for key, ztoc in each.ztocs.items():
            ztocs.setdefault(key, (ztoc, each.image.repository))
    layers: dict[LayerKey, PlannedLayer] = {}
    positions: dict[LayerKey, int] = {}
    images: dict[tuple[str, str, str], PlannedImage] = {}
    for each in found:
        image = each.image
        own = (image.repository, image.digest or image.name, image.destination)
        if (before := images.get(own)) is not None:
            tags = tuple(dict.fromkeys((*before.tags, *image.tags)))
            images[own] = replace(before, tags=tags)
            continue
        if image.skipped is None:
            for layer in each.layers:
                name = layer_key(layer)
                if name not in positions:
                    positions[name] = len(positions)
                    skipped = each.skipped.get(name)
                    found_ztoc = ztocs.get(name) if skipped is None else None
                    if found_ztoc is None:
                        layers[name] = PlannedLayer(layer, skipped=skipped)
                    else:
                        layers[name] = PlannedLayer(layer, *found_ztoc)
            places = tuple(positions[layer_key(layer)] for layer in each.layers)
            image = replace(image, layers=places)
        images[own] = image
    return Plan(
        tuple(images.values()),
        tuple(layers.values()),
        options.span_size,
        options.min_layer_size,
        tuple(map(str, options.platforms or ())),
        tuple(sorted(options.optimizations)),
        force,
    )

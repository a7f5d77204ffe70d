"""Finds images that can be mounted without being pulled, and the index for it.

containerd says what it pulls: the reference, the digest of the manifest, and the digests of layers.
An index that the manifest names is covered by that digest. Indexes that only refer to the manifest
may come from anyone who can push to the repository; see docs/security.md.
"""

from __future__ import annotations

import platform as machine
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError, RegistryError, TocsinError
from tocsin.images.seek_tables import bound_seek_table, referring_seek_tables
from tocsin.images.selection import platform_images, resolve_image
from tocsin.images.soci_indexes import soci_indexes_of
from tocsin.images.walk import walk_manifests
from tocsin.log import LOG
from tocsin.model.digest import Digest
from tocsin.model.image_config import MAX_CONFIG_SIZE, ImageConfig
from tocsin.model.platform import Platform
from tocsin.model.reference import RegistryReference, parse_registry_name
from tocsin.model.soci_index import PREFETCH
from tocsin.mounting.chains import chain_ids
from tocsin.mounting.options import ANY, BY_TAG, TRUST
from tocsin.mounting.remembered import RememberedSource
from tocsin.quoting import shown
from tocsin.reading.seek_image import seek_table_problem
from tocsin.stores.base import read_blob
from tocsin.stores.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tocsin.images.selection import PlatformImage
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.document import Document
    from tocsin.model.manifest import Manifest
    from tocsin.stores.base import Source
    from tocsin.stores.registry import RegistryOptions

AUTO = "auto"
_V1 = "v1"
_ANSWER_LIFE = 60.0
"""Seconds without a question after which an answer is forgotten: containerd asks once for each
layer, and unpacks the layer first if the answer is no."""
_MAX_ANSWER_LIFE = 600.0
"""Seconds after which an answer is forgotten in any case."""
_MAX_ANSWERS = 64


@dataclass(frozen=True, slots=True)
class LazyImage:
    """An image that can be mounted without being pulled.

    Attributes:
        reference: the image in the registry, by the digest of the platform's manifest.
        manifest: that digest.
        chain_ids: chain IDs of the lowest 1, 2, … layers.
        index: what it is read with: ``seek``, ``v2`` or ``v1``.
        by_tag: whether it is pulled by tag.
        choice: the choice of indexes that finds this index again: ``auto`` if the manifest names
            it, or else its digest.

    Source: OCI image-spec 1.1.1, config.md, "Layer ChainID".
    """

    reference: RegistryReference
    manifest: Digest
    chain_ids: tuple[str, ...]
    index: str
    by_tag: bool
    choice: str = AUTO

    @property
    def layer_count(self) -> int:
        """Number of layers."""
        return len(self.chain_ids)

    def choice_for(self, count: int) -> str:
        """Return the choice of indexes for the lowest `count` layers.

        A seek table lists the files of all layers together, so that fewer layers need another
        index.
        """
        is_referring_table = self.index == "seek" and self.choice != AUTO
        return _V1 if is_referring_table and count < self.layer_count else self.choice

    def to_dict(self) -> Document:
        """Return the image as a JSON document, for `from_dict`."""
        return {
            "reference": self.reference.name,
            "chain_ids": list(self.chain_ids),
            "index": self.index,
            "by_tag": self.by_tag,
            "choice": self.choice,
        }

    @classmethod
    def from_dict(cls, document: Document) -> Self:
        """Return the image that `to_dict` returned as a document.

        Raises:
            FormatError, TypeError, KeyError: it is not one.
        """
        reference = parse_registry_name(document["reference"])
        if reference.digest is None:
            raise FormatError("lazy image: the reference has no digest", what="lazy image")
        return cls(
            reference,
            reference.digest,
            tuple(document["chain_ids"]),
            document["index"],
            document["by_tag"],
            document["choice"],
        )


@dataclass(frozen=True, slots=True)
class NotLazy:
    """An image that has to be pulled.

    Attributes:
        reason: why.
    """

    reason: str


@dataclass(slots=True)
class _Answer:
    """What is known about the images of one question.

    Attributes:
        lock: held while the registry is asked, so that other threads wait for the answer.
        begun: when the first question was asked.
        used: when the last question was asked.
        images: the images that are meant; ``None`` until they are known.
        failure: why they are not known.
        found: the answer for each image, by the digest of its manifest.
    """

    begun: float
    used: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    images: list[PlatformImage] | None = None
    failure: NotLazy | None = None
    found: dict[Digest, LazyImage | NotLazy] = field(default_factory=dict)


class LazyImages:
    """Finds out which images can be mounted without being pulled.

    Answers are remembered for about as long as the pull of an image takes. Manifests are kept in
    the cache, where mounts find them again.

    Args:
        cache_dir: the cache directory.
        trust: one of `TRUST`.
        registry: returns how to reach a registry.
        clock: returns a time in seconds that never goes back.
    """

    def __init__(
        self,
        cache_dir: Path,
        *,
        trust: str = BY_TAG,
        registry: Callable[[], RegistryOptions | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if trust not in TRUST:
            raise FormatError(
                f"trust: unknown (found {shown(trust)}, expected one of {', '.join(TRUST)})",
                what="trust",
            )
        self._cache_dir = cache_dir
        self._trust = trust
        self._registry = registry
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, str, str], _Answer] = OrderedDict()

    def find(
        self,
        reference: str,
        *,
        manifest: str | None,
        layers: Sequence[str],
        platform: str | None = None,
    ) -> LazyImage | NotLazy:
        """Return an image that is being pulled, if it can be mounted without being pulled.

        Args:
            reference: reference of the image, as containerd writes it.
            manifest: digest of the manifest or image index; ``None`` if it is not known.
            layers: digests of consecutive layers of the image, from the lowest up: those from the
                current layer on that fit into a label. May be empty if `manifest` is given.
            platform: platform of the image; by default, Linux on this machine's architecture.
        """
        try:
            return self._find(reference, manifest, list(layers), platform)
        except TocsinError as error:
            return NotLazy(error.message)
        except OSError as error:
            return NotLazy(error.strerror or type(error).__name__)

    def _find(
        self, reference: str, manifest: str | None, layers: list[str], platform: str | None
    ) -> LazyImage | NotLazy:
        name = parse_registry_name(reference)
        pulled = name.digest if manifest is None else Digest.parse(manifest)
        if manifest is None and not layers:
            return NotLazy("the labels name neither the manifest nor the layers")
        wanted = Platform.parse(platform or f"linux/{machine.machine()}")
        answer = self._answer((reference, str(pulled), str(wanted)))
        with answer.lock, self._open(name) as store:
            if answer.failure is not None:
                return answer.failure
            if answer.images is None:
                try:
                    answer.images = list(_images(store, pulled or name.tag, wanted))
                except (TocsinError, OSError) as error:
                    answer.failure = _not_lazy(error)
                    return answer.failure
            for image in answer.images:
                if _has_run([str(each.digest) for each in _layers_of(image.manifest)], layers):
                    break
            else:
                return NotLazy("the layers in the labels are not those of the image's manifest")
            digest = image.descriptor.digest
            if digest not in answer.found:
                try:
                    answer.found[digest] = self._judged(store, name, image)
                except (TocsinError, OSError) as error:
                    answer.found[digest] = _not_lazy(error)
            return answer.found[digest]

    def _answer(self, key: tuple[str, str, str]) -> _Answer:
        """Return what is known about a question, and forget what is old."""
        now = self._clock()
        with self._lock:
            for each, answer in list(self._answers.items()):
                if now > min(answer.used + _ANSWER_LIFE, answer.begun + _MAX_ANSWER_LIFE):
                    del self._answers[each]
            found = self._answers.setdefault(key, _Answer(now, now))
            found.used = now
            self._answers.move_to_end(key)
            while len(self._answers) > _MAX_ANSWERS:
                self._answers.popitem(last=False)
            return found

    def _open(self, name: RegistryReference) -> RememberedSource:
        return RememberedSource(
            f"docker://{name.host}/{name.repository}",
            lambda: open_source(name, registry=self._registry()),
            self._cache_dir,
            partial(LOG.info, "%s"),
        )

    def _judged(
        self, store: Source, name: RegistryReference, image: PlatformImage
    ) -> LazyImage | NotLazy:
        """Return the answer for one image."""
        layers = _layers_of(image.manifest)
        config = read_blob(store, image.manifest.config, max_size=MAX_CONFIG_SIZE)
        diff_ids = ImageConfig.from_json(config).diff_ids
        if len(diff_ids) != len(layers) or not layers:
            return NotLazy(
                "the image's config lists another number of layers than its manifest (found "
                f"{len(diff_ids)}, expected {len(layers)})"
            )
        by_tag = name.digest is None
        may_refer = self._trust == ANY or (self._trust == BY_TAG and by_tag)
        problems: list[str] = []
        for index, choice, problem in _indexes(store, image, layers, may_refer=may_refer):
            if problem is not None:
                problems.append(problem)
                continue
            digest = image.descriptor.digest
            return LazyImage(
                RegistryReference(name.host, name.repository, None, digest),
                digest,
                tuple(chain_ids(diff_ids)),
                index,
                by_tag,
                choice,
            )
        if problems:
            return NotLazy(f"no index can be used: {'; '.join(problems)}")
        if may_refer:
            return NotLazy("the image has no index")
        why = "for images pulled by tag" if self._trust == BY_TAG else "with trust any"
        return NotLazy(
            f"the image's manifest names no index; indexes that refer to it are used only {why}"
        )


def _not_lazy(error: TocsinError | OSError) -> NotLazy:
    if isinstance(error, RegistryError) and error.temporary:
        return NotLazy(f"the registry cannot be reached: {error.message}")
    if isinstance(error, TocsinError):
        return NotLazy(error.message)
    return NotLazy(error.strerror or type(error).__name__)


def _images(
    store: Source, selector: str | Digest | None, wanted: Platform
) -> Iterator[PlatformImage]:
    """Yield the images that are meant, without reading the manifests of other platforms."""
    target = resolve_image(store, selector)
    for entry in walk_manifests(store, target):
        if entry.digest == target.digest:
            yield from platform_images(store, entry, None)
        elif entry.platform is None or wanted.matches(entry.platform):
            try:
                yield from platform_images(store, entry, None)
            except TocsinError as error:
                LOG.info("%s is not used: %s", entry.digest, error.message)


def _layers_of(manifest: Manifest) -> list[Descriptor]:
    return [layer for layer in manifest.layers or () if layer.media_type != PREFETCH]


def _has_run(layers: list[str], run: list[str]) -> bool:
    """Return whether some of the layers, one after the other, are those of `run`."""
    last = len(layers) - len(run)
    return any(layers[at : at + len(run)] == run for at in range(last + 1))


def _indexes(
    store: Source, image: PlatformImage, layers: list[Descriptor], *, may_refer: bool
) -> Iterator[tuple[str, str, str | None]]:
    """Yield the indexes of an image in the order in which readers try them.

    Yields:
        (index, choice, problem): as in `LazyImage`; why the index cannot be used, or ``None``.
    """
    bound = bound_seek_table(store, image.manifest)
    if bound is not None:
        yield "seek", AUTO, _text(seek_table_problem(bound, layers))
    yield from _soci_indexes(store, image, layers, version=2)
    if may_refer:
        for table in referring_seek_tables(store, image.descriptor):
            yield "seek", str(table.digest), _text(seek_table_problem(table, layers))
        yield from _soci_indexes(store, image, layers, version=1)


def _soci_indexes(
    store: Source, image: PlatformImage, layers: list[Descriptor], *, version: int
) -> Iterator[tuple[str, str, str | None]]:
    found = soci_indexes_of(store, image.descriptor, image.manifest, versions={version})
    for each in found:
        problem = each.problem
        if each.soci_index is not None and not any(
            each.soci_index.ztoc_of(layer.digest) for layer in layers
        ):
            problem = f"SOCI index {each.digest}: it lists none of the image's layers"
        yield f"v{version}", AUTO if version > 1 else str(each.digest), problem


def _text(error: TocsinError | None) -> str | None:
    return None if error is None else error.message

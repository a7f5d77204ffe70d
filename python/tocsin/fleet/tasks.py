"""The tasks that workers run: index one layer, index one image, check the right to push.

Tasks and their results are pickled for workers on other machines. They contain no secret: options
for registries drop user name and password, and each worker finds its own credentials. zTOCs travel
through the registry: the task of a layer pushes its zTOC to a repository that has the layer, and
the tasks of images mount or copy it from there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from tocsin.errors import NotFoundError, RegistryError, TocsinError
from tocsin.fleet.connections import keeping_connections
from tocsin.images.copying import copy_blob
from tocsin.indexing.convert import convert_with
from tocsin.indexing.create import create_with
from tocsin.indexing.known import KnownLayer, usable_ztoc
from tocsin.indexing.layer_jobs import LayerJobs, layer_key
from tocsin.indexing.reuse import ReusableZtocs
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCTET_STREAM
from tocsin.model.reference import parse_registry_name
from tocsin.model.soci_index import IndexedLayer, make_soci_index
from tocsin.quoting import shown
from tocsin.stores.base import TakenOver
from tocsin.stores.metering import Meter, MeteredSink, MeteredSource, Traffic
from tocsin.stores.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.indexing.options import IndexingOptions
    from tocsin.model.descriptor import Descriptor
    from tocsin.model.events import Event
    from tocsin.stores.base import Sink
    from tocsin.stores.registry import RegistryOptions, RegistryStore

IMAGES_AT_ONCE = 4
"""Images of one batch that are indexed at the same time."""


@dataclass(frozen=True, slots=True)
class IndexLayer:
    """Index a layer, and push its zTOC to a repository that has the layer.

    Attributes:
        layer: the layer.
        repositories: ``HOST/REPO`` of repositories that have the layer, in the order to try.
        ztoc: zTOC that the first of them has; it is used unless it does not fit the layer.
        blob: zTOC from a local store, used in the same way; empty if there is none.
        options: indexing options.
        registry: options for access to registries.
        run: name of the run.
    """

    layer: Descriptor
    repositories: tuple[str, ...]
    ztoc: Descriptor | None
    blob: bytes
    options: IndexingOptions
    registry: RegistryOptions | None
    run: str = ""

    def perform(self) -> LayerDone:
        """Run the task in the first repository that has the layer.

        Raises:
            NotFoundError: no repository has the layer.
            RegistryError: a registry rejected a request.
            VerificationError: the layer does not match its digest.
        """
        missing: NotFoundError | None = None
        for repository in self.repositories:
            try:
                return self._in(repository)
            except NotFoundError as error:
                missing = error
        assert missing is not None  # noqa: S101 (a planned layer has a repository)
        raise missing

    def _in(self, repository: str) -> LayerDone:
        reference = parse_registry_name(repository)
        registry = keeping_connections(self.registry)
        meter = Meter()
        # Importing the requests library is slow.
        from tocsin.stores.registry import open_repository  # noqa: PLC0415

        with (
            open_source(reference, registry=registry) as source,
            open_repository(reference, registry, write=True) as sink,
        ):
            metered = _NewZtocs(sink, meter)
            jobs = LayerJobs(
                MeteredSource(source, meter),
                metered,
                options=self.options,
                known=self._existing(metered),
                carry=False,
                progress=self._check,
            )
            outcome = jobs.run([self.layer])[layer_key(self.layer)]
        result = replace(outcome.result, reused=False)
        disable_xattrs = outcome.indexed is not None and outcome.indexed.disable_xattrs
        known = KnownLayer(result, disable_xattrs, repository if result.ztoc is not None else "")
        return LayerDone(known, meter.traffic)

    def _existing(self, sink: Sink) -> ReusableZtocs:
        """Return the zTOC that exists, so that the layer is read only if it does not fit."""
        found = self.ztoc
        if self.blob:
            ztoc = usable_ztoc(self.blob, self.layer, span_size=self.options.span_size)
            if ztoc is not None:
                found = sink.put_blob(self.blob)
        if found is None:
            return ReusableZtocs()
        indexed = IndexedLayer(self.layer, found, self.options.span_size)
        return ReusableZtocs([make_soci_index([indexed])])

    def _check(self, _event: Event) -> None:
        if self.run in _STOPPED:
            raise StoppedError


class _NewZtocs(MeteredSink):
    """A sink for zTOCs that were just built, which the registry is not asked for first.

    They are missing unless a run was killed, and two requests are saved for each.
    """

    def __init__(self, inner: RegistryStore, meter: Meter) -> None:
        super().__init__(inner, meter)
        self._store = inner

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Store a blob; a zTOC is given as bytes."""
        if not isinstance(source, bytes) or digest is not None:
            return super().put_blob(source, digest=digest, size=size, media_type=media_type)
        put = self._store.put_new_blob(source, media_type=media_type)
        self._meter.add("ztocs", put.size)
        return put


@dataclass(frozen=True, slots=True)
class LayerDone:
    """Result of `IndexLayer`.

    Attributes:
        known: what was found out about the layer.
        traffic: bytes read and written.
    """

    known: KnownLayer
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class IndexImage:
    """Index an image whose layers have been indexed.

    Attributes:
        repository: ``HOST/REPO``.
        digest: digest of the manifest or image index.
        tags: tags that named the image when it was planned; one must still name it.
        destination: ``HOST/REPO:TAG`` of the converted image; empty to create indexes.
        known: what is known about the layers.
        force: replace a different image at `destination`.
        options: indexing options.
        registry: options for access to registries.
        run: name of the run.
        is_repeated: whether an attempt failed before, and may have stored indexes.
    """

    repository: str
    digest: str
    tags: tuple[str, ...]
    destination: str
    known: tuple[KnownLayer, ...]
    force: bool
    options: IndexingOptions
    registry: RegistryOptions | None
    run: str = ""
    is_repeated: bool = False

    def perform(self) -> ImageDone:
        """Run the task.

        Raises:
            TocsinError: as ``create`` or ``convert``.
        """
        registry = keeping_connections(self.registry)
        reason = self._what_changed(registry)
        if reason:
            return ImageDone(reason, Traffic())
        source = parse_registry_name(f"{self.repository}@{self.digest}")
        elsewhere = KnownElsewhere(self.known, self.repository, registry)
        if self.destination:
            result = convert_with(
                source,
                parse_registry_name(self.destination),
                options=self.options,
                force=self.force,
                elsewhere=elsewhere,
                registry=registry,
                progress=self._check,
            )
            return ImageDone("", result.traffic)
        created = create_with(
            source,
            options=self.options,
            existing_index="allow",
            elsewhere=elsewhere,
            is_repeated=self.is_repeated,
            registry=registry,
            progress=self._check,
        )
        return ImageDone("", created.traffic)

    def _what_changed(self, registry: RegistryOptions) -> str:
        """Return why the image must be skipped; empty if it is as planned."""
        reference = parse_registry_name(f"{self.repository}@{self.digest}")
        found = ""
        with open_source(reference, registry=registry) as store:
            for tag in self.tags:
                try:
                    found = str(store.resolve(tag).digest)
                except NotFoundError:
                    continue
                if found == self.digest:
                    return ""
            try:
                store.resolve(Digest.parse(self.digest))
            except NotFoundError:
                return "the image no longer exists"
        if not self.tags:
            return ""
        if not found:
            return f"tag {shown(self.tags[0])} no longer exists"
        return (
            f"tag {shown(self.tags[0])} names another image now (found {found}, expected "
            f"{self.digest})"
        )

    def _check(self, _event: Event) -> None:
        if self.run in _STOPPED:
            raise StoppedError


@dataclass(frozen=True, slots=True)
class ImageDone:
    """Result of `IndexImage`.

    Attributes:
        skipped: why the image was skipped; empty if it was indexed.
        traffic: bytes read and written.
    """

    skipped: str
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class CheckPush:
    """Check that repositories can be pushed to, without writing anything.

    Attributes:
        repositories: ``HOST/REPO`` of each repository.
        registry: options for access to registries.
    """

    repositories: tuple[str, ...]
    registry: RegistryOptions | None

    def perform(self) -> dict[str, TocsinError]:
        """Return the repositories that cannot be pushed to, with the error.

        Raises:
            RegistryError: a temporary error.
        """
        # Importing the requests library is slow.
        from tocsin.stores.registry import open_repository  # noqa: PLC0415

        registry = keeping_connections(self.registry)
        failed: dict[str, TocsinError] = {}
        for repository in self.repositories:
            reference = parse_registry_name(repository)
            with open_repository(reference, registry, write=True) as store:
                try:
                    store.check_push()
                except RegistryError as error:
                    if error.temporary:
                        raise
                    failed[repository] = error
        return failed


SingleTask: TypeAlias = IndexLayer | IndexImage | CheckPush
TaskResult: TypeAlias = LayerDone | ImageDone | dict[str, TocsinError]


@dataclass(frozen=True, slots=True)
class Batch:
    """Several small tasks that an engine runs as one, since each has a cost there.

    Attributes:
        tasks: the tasks.
    """

    tasks: tuple[SingleTask, ...]

    def perform(self) -> tuple[TaskResult | Exception, ...]:
        """Run the tasks and return the result or the error of each.

        Images mostly wait for the registry, so they run at the same time; layers need the CPU.
        """
        done: dict[int, TaskResult | Exception] = {}
        with ThreadPoolExecutor(IMAGES_AT_ONCE, thread_name_prefix="image") as pool:
            images = {
                at: pool.submit(_outcome, task)
                for at, task in enumerate(self.tasks)
                if isinstance(task, IndexImage)
            }
            for at, task in enumerate(self.tasks):
                if at not in images:
                    done[at] = _outcome(task)
            done |= {at: future.result() for at, future in images.items()}
        return tuple(done[at] for at in range(len(self.tasks)))


def _outcome(task: SingleTask) -> TaskResult | Exception:
    try:
        return task.perform()
    except Exception as error:
        return error


Task: TypeAlias = SingleTask | Batch
"""What a worker runs."""


def perform(task: Task) -> TaskResult | tuple[TaskResult | Exception, ...]:
    """Run a task; the function that is submitted to executors."""
    return task.perform()


class KnownElsewhere:
    """Layers of an image that were indexed before; see `KnownLayers`.

    Args:
        known: what is known about the layers.
        repository: ``HOST/REPO`` of the image and its zTOCs.
        registry: options for access to registries.
    """

    def __init__(
        self, known: tuple[KnownLayer, ...], repository: str, registry: RegistryOptions
    ) -> None:
        self._known = {layer_key(each.result.layer): each for each in known}
        self._repository = repository
        self._registry = registry

    def find(self, layer: Descriptor) -> KnownLayer | None:
        """Return what is known about a layer."""
        return self._known.get(layer_key(layer))

    def bring(self, known: KnownLayer, sink: Sink) -> bool:
        """Mount or copy a zTOC from the repository that has it."""
        ztoc = known.result.ztoc
        assert ztoc is not None  # noqa: S101 (by contract)
        if known.repository == self._repository:
            return sink.has_blob(ztoc)
        reference = parse_registry_name(known.repository)
        try:
            with open_source(reference, registry=self._registry) as source:
                # Mounted at once: whether the blob exists already would be another request.
                takeover = sink.take_over(ztoc, source.origin)
                if not isinstance(takeover, TakenOver):
                    copy_blob(source, sink, ztoc)
        except NotFoundError:
            return False
        return True


class StoppedError(Exception):
    """The run was interrupted; only tasks in threads of the same process find out."""


_STOPPED: set[str] = set()
"""Names of runs in this process that were interrupted."""


def stop(run: str) -> None:
    """Stop the tasks of a run in this process at their next step."""
    _STOPPED.add(run)

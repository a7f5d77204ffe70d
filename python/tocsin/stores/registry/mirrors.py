"""A repository that several hosts have: reads ask them in order, until one answers.

A mirror that fails in any way (refuses, lacks something, sends what its digest does not fit) is
passed over, and one that does not answer at all is not asked again. A stream that breaks goes on
where it broke, from the next host. If nobody answers, the error is that of the last one, which is
the registry itself, and names the others. What a tag means, and what refers to an image, only hosts
trusted to resolve may say.

Source: containerd/containerd, docs/hosts.md.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Self, TypeVar

from tocsin.errors import NotFoundError, RegistryError, TocsinError
from tocsin.model.digest import Digest
from tocsin.stores.registry.hosts_toml import PULL, RESOLVE
from tocsin.stores.verification import verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from tocsin.model.descriptor import Descriptor
    from tocsin.stores.origins import RepositoryOrigin
    from tocsin.stores.registry.client import RegistryStore

_Found = TypeVar("_Found")

_RESUMED_SIZE = 4 << 20
"""Bytes asked for at once where a stream goes on from another host."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """A host that has the repository.

    Attributes:
        store: the repository there.
        capabilities: what it is trusted with, as ``hosts.toml`` has it.
    """

    store: RegistryStore
    capabilities: frozenset[str]


class MirroredRepository:
    """A source; see `Source` for what each method promises.

    Args:
        name: how messages call it.
        mirrors: in the order of asking, the registry itself last.
    """

    def __init__(self, name: str, mirrors: Sequence[Mirror]) -> None:
        self._name = name
        self._mirrors = tuple(mirrors)
        self._silent: set[RegistryStore] = set()
        self._lacking: set[tuple[RegistryStore, Digest]] = set()

    @property
    def name(self) -> str:
        """How messages call the place."""
        return self._name

    @property
    def origin(self) -> RepositoryOrigin:
        """The registry itself, since a mirror may lack what others have."""
        return self._mirrors[-1].store.origin

    def resolve(self, selector: str | Digest | None) -> Descriptor:
        """Return the descriptor of the image that `selector` names."""
        by_digest = isinstance(selector, Digest)
        stores = self._stores(PULL) if by_digest else self._stores(PULL, RESOLVE)
        failures = _Failures(self)
        for store in stores:
            with failures.of(store):
                return store.resolve(selector)
        raise failures.error()

    def tags(self) -> list[str]:
        """Return the tags of the first host that has any."""
        return self._first_filled(lambda store: store.tags())

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or image index, verified."""
        return self._first(descriptor, lambda store: store.manifest(descriptor))

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob, verified as a whole, wherever its parts came from."""
        yield from verified(
            self._pieces(descriptor),
            place=f"{self._name}: blob {descriptor.digest}",
            digest=descriptor.digest if verify else None,
            size=descriptor.size,
        )

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a blob, unverified."""
        return self._first(descriptor, lambda store: store.blob_range(descriptor, start, end))

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return what refers to `subject`, from the first host that knows of anything."""
        try:
            return self._first_filled(lambda store: store.referrers(subject, artifact_type))
        except TocsinError:
            if not lenient:
                raise
        return self._first_filled(
            lambda store: store.referrers(subject, artifact_type, lenient=True)
        )

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob, or manifest, is at any host."""
        return self._first_filled(lambda store: store.has_blob(descriptor), PULL)

    def close(self) -> None:
        """Close the connections."""
        for mirror in self._mirrors:
            mirror.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MirroredRepository {self._name}>"

    def _pieces(self, descriptor: Descriptor) -> Iterator[bytes]:
        at = 0
        failures = _Failures(self)
        for store in self._having(descriptor):
            with failures.of(store, descriptor.digest):
                pieces = (
                    _rest(store, descriptor, at) if at else store.blob(descriptor, verify=False)
                )
                for piece in pieces:
                    at += len(piece)
                    yield piece
                return
        raise failures.error()

    def _first(self, descriptor: Descriptor, ask: Callable[[RegistryStore], _Found]) -> _Found:
        failures = _Failures(self)
        for store in self._having(descriptor):
            with failures.of(store, descriptor.digest):
                return ask(store)
        raise failures.error()

    def _first_filled(self, ask: Callable[[RegistryStore], _Found], *capabilities: str) -> _Found:
        """Return the first answer that holds anything; else an empty one, if there was one."""
        failures = _Failures(self)
        answers = []
        for store in self._stores(*(capabilities or (PULL, RESOLVE))):
            with failures.of(store):
                answers.append(ask(store))
                if answers[-1]:
                    return answers[-1]
        if not answers:
            raise failures.error()
        return answers[-1]

    def _stores(self, *capabilities: str) -> list[RegistryStore]:
        """Return the hosts to ask, those that did not answer before last.

        Raises:
            RegistryError: no host may be asked.
        """
        found = [each.store for each in self._mirrors if each.capabilities.issuperset(capabilities)]
        if not found:
            raise RegistryError(
                f"{self._name}: hosts.toml names no host that may {' and '.join(capabilities)}"
            )
        return sorted(found, key=self._silent.__contains__)

    def _having(self, descriptor: Descriptor) -> list[RegistryStore]:
        """Return the hosts to ask for a blob or manifest, without those known to lack it."""
        stores = self._stores(PULL)
        return [s for s in stores if (s, descriptor.digest) not in self._lacking] or stores

    def _note(self, store: RegistryStore, error: TocsinError, digest: Digest | None) -> None:
        if isinstance(error, RegistryError) and error.status is None:
            self._silent.add(store)
        elif isinstance(error, NotFoundError) and digest is not None:
            self._lacking.add((store, digest))

    def _place(self, store: RegistryStore) -> int:
        return next(at for at, each in enumerate(self._mirrors) if each.store is store)


class _Failures:
    """What went wrong at the hosts asked, for one question."""

    def __init__(self, repository: MirroredRepository) -> None:
        self._repository = repository
        self._errors: list[tuple[int, TocsinError]] = []

    @contextmanager
    def of(self, store: RegistryStore, digest: Digest | None = None) -> Iterator[None]:
        """Keep an error of `store`, so that the next host is asked."""
        try:
            yield
        except TocsinError as error:
            self._repository._note(store, error, digest)
            self._errors.append((self._repository._place(store), error))

    def error(self) -> TocsinError:
        """Return the error of the registry itself, or of the host next to it."""
        *others, (_, last) = sorted(self._errors, key=itemgetter(0))
        for _, other in others:
            last.add_note(f"mirror {other.message}")
        return last


def _rest(store: RegistryStore, descriptor: Descriptor, start: int) -> Iterator[bytes]:
    for at in range(start, descriptor.size, _RESUMED_SIZE):
        yield store.blob_range(descriptor, at, min(at + _RESUMED_SIZE, descriptor.size))

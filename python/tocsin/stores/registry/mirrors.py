"""Repositories with mirrors: each read tries the hosts in order until one succeeds.

A mirror that fails in any way (refusal, missing object, wrong digest) is skipped, and one that does
not respond at all is tried last from then on. An interrupted stream is resumed from the next host.
If all hosts fail, the error is that of the last one, which is the registry itself, with notes about
the others. Tags and referrers are read only from hosts with the capability ``resolve``.

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
"""Bytes per request when a stream is resumed from another host."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """A host of the repository.

    Attributes:
        store: the repository on that host.
        capabilities: capabilities from ``hosts.toml``.
    """

    store: RegistryStore
    capabilities: frozenset[str]


class MirroredRepository:
    """A repository that is read from several hosts; see `Source` for the contract of each method.

    Args:
        name: name in messages.
        mirrors: the hosts in order, with the registry itself last.
    """

    def __init__(self, name: str, mirrors: Sequence[Mirror]) -> None:
        self._name = name
        self._mirrors = tuple(mirrors)
        self._silent: set[RegistryStore] = set()
        self._lacking: set[tuple[RegistryStore, Digest]] = set()

    @property
    def name(self) -> str:
        """Name in messages."""
        return self._name

    @property
    def origin(self) -> RepositoryOrigin:
        """The registry itself, since mirrors may be incomplete."""
        return self._mirrors[-1].store.origin

    def resolve(self, selector: str | Digest | None, *, will_read: bool = False) -> Descriptor:
        """Return the descriptor of the image that `selector` names."""
        by_digest = isinstance(selector, Digest)
        stores = self._stores(PULL) if by_digest else self._stores(PULL, RESOLVE)
        failures = _Failures(self)
        for store in stores:
            with failures.of(store):
                return store.resolve(selector, will_read=will_read)
        raise failures.error()

    def tags(self) -> list[str]:
        """Return the tags of the first host that has any."""
        return self._first_filled(lambda store: store.tags())

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or image index, verified."""
        return self._first(descriptor, lambda store: store.manifest(descriptor))

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob, verified as a whole even if its parts come from several hosts."""
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
        """Return the referrers of `subject` from the first host that lists any."""
        try:
            return self._first_filled(lambda store: store.referrers(subject, artifact_type))
        except TocsinError:
            if not lenient:
                raise
        return self._first_filled(
            lambda store: store.referrers(subject, artifact_type, lenient=True)
        )

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether any host has a blob or manifest."""
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
        """Return the first nonempty result; if there is none, an empty result."""
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
        """Return the hosts with `capabilities`; those that did not respond before come last.

        Raises:
            RegistryError: no host has the capabilities.
        """
        found = [each.store for each in self._mirrors if each.capabilities.issuperset(capabilities)]
        if not found:
            raise RegistryError(
                f"{self._name}: hosts.toml has no host with the capability to "
                f"{' and '.join(capabilities)}"
            )
        return sorted(found, key=self._silent.__contains__)

    def _having(self, descriptor: Descriptor) -> list[RegistryStore]:
        """Return the hosts to try for a blob or manifest, without those known not to have it."""
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
    """The errors of all hosts for one request."""

    def __init__(self, repository: MirroredRepository) -> None:
        self._repository = repository
        self._errors: list[tuple[int, TocsinError]] = []

    @contextmanager
    def of(self, store: RegistryStore, digest: Digest | None = None) -> Iterator[None]:
        """Record an error of `store` instead of raising it, so that the next host is tried."""
        try:
            yield
        except TocsinError as error:
            self._repository._note(store, error, digest)
            self._errors.append((self._repository._place(store), error))

    def error(self) -> TocsinError:
        """Return the error of the last host, with notes about the others."""
        *others, (_, last) = sorted(self._errors, key=itemgetter(0))
        for _, other in others:
            last.add_note(f"mirror {other.message}")
        return last


def _rest(store: RegistryStore, descriptor: Descriptor, start: int) -> Iterator[bytes]:
    for at in range(start, descriptor.size, _RESUMED_SIZE):
        yield store.blob_range(descriptor, at, min(at + _RESUMED_SIZE, descriptor.size))

"""A namespace of containerd, for reading and writing.

Everything that is written is protected by a lease until images and labels refer to it. A run that
fails deletes its lease; that of a run which was killed expires. containerd then collects what was
written.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from tocsin.containerd_api import messages_pb2 as messages
from tocsin.errors import NotFoundError
from tocsin.model.descriptor import Descriptor
from tocsin.model.manifest import parse_manifest
from tocsin.model.media_types import OCTET_STREAM
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.containerd.labels import EXPIRY, child_labels, referrer_label
from tocsin.stores.containerd.source import ContainerdSource
from tocsin.stores.containerd.upload import Upload
from tocsin.stores.file_store import manifest_descriptor
from tocsin.stores.hashing import hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from tocsin.model.digest import Digest
    from tocsin.stores.base import Takeover
    from tocsin.stores.origins import BlobOrigin

_LEASE_DURATION = timedelta(hours=24)
"""As in containerd's own client. A lease cannot be renewed, so it must outlast the longest run."""


class ContainerdSink(ContainerdSource):
    """A namespace of containerd; see `Sink` for the contract of each method.

    Arguments are those of `ContainerdSource`.
    """

    def __init__(self, name: str, address: str, namespace: str) -> None:
        super().__init__(name, address, namespace)
        self._lock = threading.Lock()
        self._lease: str | None = None

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Store a blob, protected by the lease."""
        return self._put(source, digest=digest, size=size, media_type=media_type, labels={})

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> Takeover:
        """Take a blob over from another namespace of the same containerd.

        That needs containerd's default policy for content, ``shared``.
        """
        if self.has_blob(descriptor):
            return TakenOver()
        if not self.origin.takes_from(origin):
            return MustStream()
        with Upload(self._client, self._leased(), self._place(descriptor.digest)) as upload:
            if not upload.offer(descriptor.digest, descriptor.size):
                return MustStream()
            upload.commit(descriptor.digest, {})
        return TakenOver()

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Store a manifest, with labels that keep what it lists.

        A referrer is kept by a label of its subject, for as long as that exists.

        Raises:
            NotFoundError: the manifest has a subject that is not in the namespace.
        """
        descriptor, _ = manifest_descriptor(data, media_type, place=self._name)
        document = parse_manifest(data, media_type)
        labels = child_labels(document)
        if not self.has_blob(descriptor):
            self._put(
                data,
                digest=descriptor.digest,
                size=descriptor.size,
                media_type=media_type,
                labels=labels,
            )
        # A blob that already existed may lack labels.
        place = self._place(descriptor.digest)
        self._client.label_content(descriptor.digest, labels, place=place)
        if document.subject is not None:
            self._keep_referrer(document.subject.digest, descriptor.digest)
        if tag is not None:
            self.tag(descriptor, tag)
        return descriptor

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Create an image with the name `tag`, or give the existing one another target."""
        if not self.has_blob(descriptor):
            raise NotFoundError(
                f"{self._place(descriptor.digest)}: not found, so it cannot be tagged"
            )
        target = messages.Descriptor(
            media_type=descriptor.media_type,
            digest=str(descriptor.digest),
            size=descriptor.size,
        )
        self._client.set_image(messages.Image(name=tag, target=target))

    def delete(self, descriptor: Descriptor) -> None:
        """Remove a manifest and the images whose target it is, but not its children."""
        digest = descriptor.digest
        if not super().has_blob(descriptor):
            raise NotFoundError(f"{self._place(digest)}: not found")
        document, _ = self._document(descriptor)
        for image in self._client.images(f"target.digest=={digest}"):
            self._client.delete_image(image.name)
        if document.subject is not None:
            subject = document.subject.digest
            labelled = self._client.content(subject)
            label = referrer_label(digest)
            if labelled is not None and label in labelled.labels:
                self._client.label_content(subject, {label: ""}, place=self._place(subject))
        self._client.delete_content(digest)

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob exists, and protect it until the end of the run."""
        self._client.lease_content(self._leased(), descriptor.digest)
        return super().has_blob(descriptor)

    def commit(self) -> None:
        """Do nothing: writes are visible at once."""

    def close(self) -> None:
        """Delete the lease and close the connection."""
        with self._lock:
            lease, self._lease = self._lease, None
        try:
            if lease is not None:
                self._client.delete_lease(lease)
        finally:
            super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as failed:
            error.add_note(f"deleting the lease failed: {type(failed).__name__}")

    def _leased(self) -> str:
        """Return the lease of this run, which the first call creates."""
        with self._lock:
            if self._lease is None:
                lease = f"tocsin-{uuid4().hex}"
                expiry = (datetime.now(UTC) + _LEASE_DURATION).strftime("%Y-%m-%dT%H:%M:%SZ")
                self._client.create_lease(lease, {EXPIRY: expiry})
                self._lease = lease
            return self._lease

    def _put(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None,
        size: int | None,
        media_type: str,
        labels: Mapping[str, str],
    ) -> Descriptor:
        place = self._name + (": new blob" if digest is None else f": blob {digest}")
        stream = hashed(source, place=place, digest=digest, size=size)
        promised = None if digest is None or size is None else Descriptor(media_type, digest, size)
        if promised is not None and self.has_blob(promised):
            stream.drain()
            return promised
        with Upload(self._client, self._leased(), place) as upload:
            for piece in stream:
                upload.write(piece)
            # A blob that exists by now is not in the lease of this run.
            self._client.lease_content(self._leased(), stream.digest)
            upload.commit(stream.digest, labels)
        return Descriptor(media_type, stream.digest, stream.size)

    def _keep_referrer(self, subject: Digest, referrer: Digest) -> None:
        try:
            self._client.label_content(
                subject, {referrer_label(referrer): str(referrer)}, place=self._place(subject)
            )
        except NotFoundError:
            raise NotFoundError(
                f"{self._name}: the index {referrer} refers to the image {subject}, which is not in"
                " this namespace, so containerd would delete the index",
                hint="Pull the image, or name it as the destination.",
            ) from None

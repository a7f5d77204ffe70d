"""What the process of a mount does once all data of its image is on this machine.

It waits until the disk has the layers, so that no program that waits for its own data waits for
these too. It compares the uncompressed layers with the chain IDs by which containerd identifies
them: containerd itself does that only for layers that it unpacks. If they match, it mounts the
image once more, in another directory, with EROFS over the files in the cache. That mount needs no
process, so that this process can end when no container uses its mount any more.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tocsin.log import LOG
from tocsin.mounting.chains import chain_id
from tocsin.mounting.erofs import CannotUseErofsError

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.mounting.engine import Engine
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.registered import Registration, Registry


class Completion:
    """Checks and mounts a complete image, in another thread.

    Args:
        engine: the engine of the mount.
        options: options of the mount.
        entry: description of the mount.
        registry: where mounts are described.

    Attributes:
        verified: whether the layers have the chain IDs of the options; ``None`` until that is
            known.
        problem: why they do not; ``None`` if they do, or until that is known.
    """

    def __init__(
        self, engine: Engine, options: MountOptions, entry: Registration, registry: Registry
    ) -> None:
        self._engine = engine
        self._options = options
        self._entry = entry
        self._registry = registry
        self._thread: threading.Thread | None = None
        self.verified: bool | None = None
        self.problem: str | None = None

    def begin(self) -> None:
        """Start the thread if there is something to do, and the image is complete."""
        wanted = self._options.chain_ids or self._options.complete_directory
        if self._thread is None and wanted and self._engine.status()["complete"]:
            self._thread = threading.Thread(target=self._run, name="tocsin-complete", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._engine.write_out()
            self._check()
            directory = self._options.complete_directory
            if directory is not None and self.verified is not False:
                self._mount(directory)
        except CannotUseErofsError as error:
            LOG.info("complete; this process still serves it: %s", error.reason)
        except OSError as error:
            LOG.warning("complete, but not mounted without this process: %s", error.strerror)
        except Exception:
            # Otherwise requests would wait for this thread without a reason in the log.
            LOG.exception("complete, but neither verified nor mounted without this process")

    def _check(self) -> None:
        """Compare the layers with their chain IDs."""
        expected = self._options.chain_ids
        if not expected:
            return
        below = ""
        for number, claimed in enumerate(expected):
            digests = self._engine.layer_digests(number)
            if digests is None:
                return  # a span was dropped from memory, so that this cannot be known
            if claimed not in [chain_id(below, digest) for digest in digests]:
                self.problem = (
                    f"the image's config lies about layer {number + 1}: its uncompressed bytes "
                    f"have the digest {digests[0]}, which is not its diff ID"
                )
                LOG.error("%s", self.problem)
                self.verified = False
                return
            below = claimed
        self.verified = True

    def _mount(self, directory: Path) -> None:
        layers = self._engine.mount_complete(str(directory))
        entry = self._entry.with_values(
            directory=str(directory),
            pid=0,
            started=0,
            since=time.time(),
            needs_process=False,
            verified=self.verified,
            layers=layers,
        )
        self._registry.write(entry)
        LOG.info("complete; mounted in %s without a process", directory)

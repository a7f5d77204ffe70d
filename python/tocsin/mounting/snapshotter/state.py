"""The snapshots, in an SQLite database that survives a crash at any point.

A change that a method has returned is on disk. SQLite's write-ahead log is flushed at each commit,
since containerd remembers the same snapshots in its own database, and flushes that one.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from tocsin.errors import FormatError, UnsupportedError
from tocsin.mounting.lazy_images import LazyImage
from tocsin.mounting.snapshotter.problems import (
    SnapshotArgumentError,
    SnapshotExistsError,
    SnapshotMissingError,
    SnapshotStateError,
    StorageFullError,
)
from tocsin.mounting.snapshotter.snapshot import Kind, Snapshot, Stub, Usage
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tocsin.model.digest import Digest

NAME = "snapshots.db"
VERSION = 1
"""Version of the tables. A database of another version is refused."""
_APPLICATION = 0x746F6373
"""Marks the database as tocsin's: "tocs"."""
_RESERVE = "reserve"
_RESERVE_SIZE = 1 << 20
"""Bytes kept on disk, so that snapshots can be removed when the disk is full: a removal writes some
pages to the log before it frees anything."""
_CHECKPOINT = 64
"""Pages after which the log is written back, so that it stays smaller than the reserve."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TABLES = """
CREATE TABLE images (
    manifest TEXT PRIMARY KEY,
    description TEXT NOT NULL
) STRICT;
CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshots (number),
    kind INTEGER NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    labels TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    inodes INTEGER NOT NULL DEFAULT 0,
    manifest TEXT REFERENCES images (manifest),
    count INTEGER
) STRICT;
CREATE INDEX children ON snapshots (parent);
"""
_FOUND = """
SELECT s.number, s.key, coalesce(p.key, ''), s.kind, s.created, s.updated, s.labels, s.size,
    s.inodes, s.count, i.description
FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent
    LEFT JOIN images i ON i.manifest = s.manifest
"""


class State:
    """The snapshots of one directory.

    Methods may be called by several threads. In a `transaction`, calls take effect together.

    Args:
        directory: directory of the database; it exists.

    Raises:
        UnsupportedError: the database was written by another version of tocsin.
        FormatError: the database is damaged, or not tocsin's.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._reserve = directory / _RESERVE
        self._lock = threading.RLock()
        self._depth = 0
        # SQLite gives its other files the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._database = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=0
        )
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        try:
            # Exclusive locking needs no shared memory, whose pages cannot be had on a full disk.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._check_version()
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("PRAGMA foreign_keys = ON")
            self._database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
            if self._value("PRAGMA user_version") == 0:
                self._database.executescript(
                    f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION}; "
                    f"PRAGMA user_version = {VERSION}; COMMIT"
                )
        except sqlite3.DatabaseError as error:
            self._raise(error)
        self._keep_reserve()

    def _check_version(self) -> None:
        version = self._value("PRAGMA user_version")
        tables = self._value("SELECT count(*) FROM sqlite_schema")
        application = self._value("PRAGMA application_id")
        name = quoted(os.fspath(self._path))
        if version == 0 and tables == 0:
            return
        if application != _APPLICATION:
            raise FormatError(
                f"{name}: not a database of tocsin's snapshotter", what="snapshotter.database"
            )
        if version != VERSION:
            raise UnsupportedError(
                f"{name}: unknown version of the database (found {version}, expected {VERSION})",
                hint="Use the version of tocsin that wrote it, or choose another --root.",
            )

    def close(self) -> None:
        """Close the database; nothing happens if it is closed."""
        with self._lock:
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Let all changes inside take effect together, or none if an error is raised."""
        with self._lock:
            if self._depth:
                yield
                return
            self._depth = 1
            try:
                self._execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.DatabaseError):
                        if self._database.in_transaction:
                            self._database.execute("ROLLBACK")
                    raise
            finally:
                self._depth = 0

    # -- questions ---------------------------------------------------------------------------------

    def get(self, key: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            SnapshotMissingError: it does not exist.
        """
        found = self._snapshots("WHERE s.key = ?", key)
        if not found:
            raise SnapshotMissingError(f"snapshot {quoted(key)}: not found")
        return found[0]

    def has(self, key: str) -> bool:
        """Return whether a snapshot exists."""
        return bool(self._rows("SELECT 1 FROM snapshots WHERE key = ?", key))

    def ancestors(self, snapshot: Snapshot) -> list[Snapshot]:
        """Return the parent of a snapshot, its parent, and so on."""
        # By depth, not by number: a snapshot that is committed onto a parent may be the older one.
        return self._snapshots(
            """JOIN (
                WITH RECURSIVE above (number, depth) AS (
                    SELECT parent, 1 FROM snapshots WHERE number = ?
                    UNION ALL
                    SELECT s.parent, a.depth + 1 FROM snapshots s JOIN above a
                        ON s.number = a.number WHERE s.parent IS NOT NULL
                ) SELECT number, depth FROM above
            ) a ON a.number = s.number ORDER BY a.depth""",
            snapshot.number,
        )

    def all(self) -> list[Snapshot]:
        """Return all snapshots, the oldest first."""
        return self._snapshots("ORDER BY s.number")

    def numbers(self) -> set[int]:
        """Return the numbers of all snapshots."""
        return {int(number) for (number,) in self._rows("SELECT number FROM snapshots")}

    def needed_layers(self) -> dict[tuple[Digest, int], LazyImage]:
        """Return which layers must be mounted, by manifest and count, each with its image.

        These are all layers of each image that has stubs, and the layers of each stub with a child
        that is not a stub, which is mounted on top of them.
        """
        needed = {}
        found = self._snapshots("WHERE s.manifest IS NOT NULL")
        used = {
            key
            for (key,) in self._rows(
                "SELECT p.key FROM snapshots s JOIN snapshots p ON p.number = s.parent "
                "WHERE p.manifest IS NOT NULL AND s.manifest IS NULL"
            )
        }
        for snapshot in found:
            assert snapshot.stub is not None  # noqa: S101 (selected above)
            image = snapshot.stub.image
            needed[image.manifest, len(image.chain_ids)] = image
            if snapshot.key in used:
                needed[image.manifest, snapshot.stub.count] = image
        return needed

    # -- changes -----------------------------------------------------------------------------------

    def create(self, kind: Kind, key: str, parent: str, labels: Mapping[str, str]) -> Snapshot:
        """Add an active snapshot or a view.

        Raises:
            SnapshotExistsError: the key is used.
            SnapshotMissingError: the parent does not exist.
            SnapshotArgumentError: the parent is not committed.
        """
        with self.transaction():
            self._check_free(key)
            above = self._parent(parent)
            self._insert(key, above, kind, labels)
            return self.get(key)

    def add_stub(self, name: str, parent: str, labels: Mapping[str, str], stub: Stub) -> Snapshot:
        """Add a committed snapshot that stands for layers of a lazy image.

        Raises:
            SnapshotExistsError, SnapshotMissingError, SnapshotArgumentError: as `create`.
        """
        image = stub.image
        with self.transaction():
            self._check_free(name)
            above = self._parent(parent)
            # The reference of the latest pull: an older one may have been deleted since.
            self._execute(
                "INSERT INTO images VALUES (?, ?) "
                "ON CONFLICT (manifest) DO UPDATE SET description = excluded.description",
                str(image.manifest),
                json.dumps(image.to_dict()),
            )
            self._insert(name, above, Kind.COMMITTED, labels)
            self._execute(
                "UPDATE snapshots SET manifest = ?, count = ? WHERE key = ?",
                str(image.manifest),
                stub.count,
                name,
            )
            return self.get(name)

    def commit(
        self, key: str, name: str, labels: Mapping[str, str], usage: Usage, parent: str = ""
    ) -> None:
        """Make an active snapshot a committed one with another name and other labels.

        Args:
            key: key of the active snapshot.
            name: key of the committed snapshot.
            labels: its labels; those of the active snapshot are dropped.
            usage: what its files need.
            parent: parent of a snapshot that was made without one; empty to keep it as it is.

        Raises:
            SnapshotExistsError: the name is used.
            SnapshotMissingError: the snapshot or the parent does not exist.
            SnapshotStateError: the snapshot is not active, or the parent not committed.
            SnapshotArgumentError: the snapshot has another parent already.
        """
        with self.transaction():
            self._check_free(name)
            snapshot = self.get(key)
            if snapshot.kind is not Kind.ACTIVE:
                raise SnapshotStateError(
                    f"snapshot {quoted(key)}: not active (found {snapshot.kind.word})"
                )
            above = self._number(snapshot.parent)
            if parent and parent != snapshot.parent:
                if snapshot.parent:
                    raise SnapshotArgumentError(
                        f"snapshot {quoted(key)}: the parent cannot be changed "
                        f"(found {quoted(parent)}, expected {quoted(snapshot.parent)})"
                    )
                found = self.get(parent)
                if found.kind is not Kind.COMMITTED:
                    raise SnapshotStateError(f"snapshot {quoted(parent)}: not committed")
                above = found.number
            now = time.time_ns()
            self._execute(
                "UPDATE snapshots SET key = ?, parent = ?, kind = ?, created = ?, updated = ?, "
                "labels = ?, size = ?, inodes = ? WHERE number = ?",
                name,
                above,
                int(Kind.COMMITTED),
                now,
                now,
                _labels_text(labels),
                usage.size,
                usage.inodes,
                snapshot.number,
            )

    def remove(self, key: str) -> Snapshot:
        """Remove a snapshot, even if the disk is full, and return it.

        Raises:
            SnapshotMissingError: it does not exist.
            SnapshotStateError: it has children.
        """
        try:
            return self._remove(key)
        except StorageFullError:
            self._reserve.unlink(missing_ok=True)
            return self._remove(key)

    def _remove(self, key: str) -> Snapshot:
        with self.transaction():
            snapshot = self.get(key)
            if self._rows("SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1", snapshot.number):
                raise SnapshotStateError(
                    f"snapshot {quoted(key)}: cannot remove it, because it has children"
                )
            self._execute("DELETE FROM snapshots WHERE number = ?", snapshot.number)
            self._execute(
                "DELETE FROM images WHERE manifest NOT IN "
                "(SELECT manifest FROM snapshots WHERE manifest IS NOT NULL)"
            )
            return snapshot

    def update(self, key: str, labels: Mapping[str, str]) -> Snapshot:
        """Replace the labels of a snapshot, and return it.

        Raises:
            SnapshotMissingError: it does not exist.
        """
        with self.transaction():
            self.get(key)
            self._execute(
                "UPDATE snapshots SET labels = ?, updated = ? WHERE key = ?",
                _labels_text(labels),
                time.time_ns(),
                key,
            )
            return self.get(key)

    def keep_reserve(self) -> None:
        """Reserve disk space for the next removal, if there is room for it."""
        with self._lock:
            self._keep_reserve()

    # -- helpers -----------------------------------------------------------------------------------

    def _keep_reserve(self) -> None:
        with suppress(OSError):
            descriptor = os.open(
                self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                os.posix_fallocate(descriptor, 0, _RESERVE_SIZE)
            finally:
                os.close(descriptor)

    def _check_free(self, key: str) -> None:
        if self.has(key):
            raise SnapshotExistsError(f"snapshot {quoted(key)}: it exists already")

    def _number(self, key: str) -> int | None:
        return self.get(key).number if key else None

    def _parent(self, key: str) -> int | None:
        if not key:
            return None
        parent = self.get(key)
        if parent.kind is not Kind.COMMITTED:
            raise SnapshotArgumentError(
                f"parent snapshot {quoted(key)}: not committed (found {parent.kind.word})"
            )
        return parent.number

    def _insert(self, key: str, parent: int | None, kind: Kind, labels: Mapping[str, str]) -> None:
        now = time.time_ns()
        self._execute(
            "INSERT INTO snapshots (key, parent, kind, created, updated, labels) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            key,
            parent,
            int(kind),
            now,
            now,
            _labels_text(labels),
        )

    def _snapshots(self, condition: str, *values: object) -> list[Snapshot]:
        return [_snapshot(row) for row in self._rows(_FOUND + condition, *values)]

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            return self._execute(statement, *values)

    def _value(self, statement: str) -> int:
        return int(self._database.execute(statement).fetchone()[0])

    def _execute(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._raise(error)

    def _raise(self, error: sqlite3.DatabaseError) -> NoReturn:
        name = quoted(os.fspath(self._path))
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StorageFullError(
                f"{name}: no space left on the device",
                hint="Remove images or containers, or enlarge the disk.",
            ) from None
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise SnapshotStateError(f"{name}: another process uses the database") from None
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise FormatError(
                f"{name}: the database is damaged", what="snapshotter.database"
            ) from None
        problem = getattr(error, "sqlite_errorname", type(error).__name__)
        raise OSError(
            errno.EIO, f"the database failed ({problem})", os.fspath(self._path)
        ) from None


def _labels_text(labels: Mapping[str, str]) -> str:
    """Return labels as JSON; as in containerd, a label without a value does not exist."""
    return json.dumps({name: value for name, value in labels.items() if value})


def _snapshot(row: Iterable[Any]) -> Snapshot:
    number, key, parent, kind, created, updated, labels, size, inodes, count, description = row
    stub = None
    if count is not None:
        stub = Stub(LazyImage.from_dict(json.loads(description)), count)
    return Snapshot(
        number, key, parent, Kind(kind), created, updated, json.loads(labels),
        Usage(size, inodes), stub,
    )  # fmt: skip


def is_full(error: OSError) -> bool:
    """Return whether an error means that the disk is full."""
    return error.errno in _FULL

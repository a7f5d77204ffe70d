"""The journal of a run: an SQLite database with the state of each layer and image.

A change is committed before the next task starts, so a run that is killed at any moment can be
resumed: tasks that were running are repeated, and no others. The write-ahead log lets ``status``
read a journal while a run writes to it.

The lock is a second database, ``JOURNAL.lock``, in which the run keeps an exclusive transaction
open: it works on every platform, and ends with the process.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tocsin.errors import ConflictError, FormatError, NotFoundError, TocsinError
from tocsin.fleet.results import (
    DONE,
    FAILED,
    PENDING,
    SKIPPED,
    FleetCounts,
    FleetProblem,
    FleetStatus,
    total_of,
)
from tocsin.indexing.known import KnownLayer
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.layer_result import LayerResult
from tocsin.model.media_types import OCTET_STREAM
from tocsin.quoting import shown
from tocsin.stores.metering import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tocsin.fleet.plans import Plan
    from tocsin.model.entry_path import StrPath

_APPLICATION_ID = 0x746F6373  # "tocs"
_VERSION = 1
_STATES = (PENDING, DONE, SKIPPED, FAILED)
_MAX_PROBLEMS = 10_000
"""Problems that a status lists; more are counted."""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE layers (
    number INTEGER PRIMARY KEY, state TEXT NOT NULL, size INTEGER NOT NULL,
    outcome TEXT, code TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE images (
    number INTEGER PRIMARY KEY, state TEXT NOT NULL, name TEXT NOT NULL,
    code TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT ''
);
"""


class Journal:
    """The journal of a run; `open_for` opens it for writing.

    Args:
        path: path of the journal.
        database: open connection.
        lock: connection that holds the lock; ``None`` for reading.
    """

    def __init__(
        self, path: Path, database: sqlite3.Connection, lock: sqlite3.Connection | None = None
    ) -> None:
        self._path = path
        self._database = database
        self._lock = lock

    @classmethod
    def open_for(cls, path: StrPath, plan: Plan) -> Self:
        """Open the journal of a plan for a run, and create it if it is missing.

        Raises:
            ConflictError: another run uses the journal, or it belongs to another plan.
            FormatError: not a journal, or damaged; `what` is ``journal``.
            OSError: it cannot be read or written.
        """
        place = Path(path)
        lock = _locked(place)
        try:
            with _problems_of(place):
                database = sqlite3.connect(place, isolation_level=None)
                try:
                    if _is_empty(database):
                        _create(database, plan)
                    _check(place, database)
                    database.execute("PRAGMA journal_mode = WAL")
                    # A commit survives the end of the process; only a power failure can lose the
                    # last ones, and their tasks are then repeated.
                    database.execute("PRAGMA synchronous = NORMAL")
                    _check_plan(place, database, plan)
                except BaseException:
                    database.close()
                    raise
        except BaseException:
            lock.close()
            raise
        return cls(place, database, lock)

    @classmethod
    def open_for_reading(cls, path: StrPath) -> Self:
        """Open an existing journal, also while a run uses it.

        Raises:
            NotFoundError: the journal is missing.
            FormatError: not a journal, or damaged; `what` is ``journal``.
        """
        place = Path(path)
        if not place.is_file():
            raise NotFoundError(f"{place}: journal not found")
        with _problems_of(place):
            database = sqlite3.connect(place, isolation_level=None)
            try:
                database.execute("PRAGMA query_only = ON")
                _check(place, database)
            except BaseException:
                database.close()
                raise
        return cls(place, database)

    def known_layers(self) -> dict[int, KnownLayer]:
        """Return the layers that are done, by their position in the plan."""
        with _problems_of(self._path):
            rows = self._database.execute(
                "SELECT number, outcome FROM layers WHERE outcome IS NOT NULL"
            ).fetchall()
            return {number: _read_outcome(self._path, outcome) for number, outcome in rows}

    def image_states(self) -> dict[int, str]:
        """Return the state of each image, by its position in the plan."""
        with _problems_of(self._path):
            return dict(self._database.execute("SELECT number, state FROM images").fetchall())

    def retry_failed(self, plan: Plan) -> None:
        """Make the failed images pending again, and the failed layers that pending images need.

        Other failed layers stay failed: no task would ever end them, such as a layer that vanished
        with all its images.
        """
        pending = "state = ?, code = '', reason = ''"
        with _problems_of(self._path), self._transaction():
            self._database.execute(
                f"UPDATE images SET {pending} WHERE state = ?",  # noqa: S608 (our own names)
                (PENDING, FAILED),
            )
            states = self.image_states()
            needed = {
                at
                for number, image in enumerate(plan.images)
                if states.get(number) == PENDING
                for at in image.layers
            }
            self._database.executemany(
                f"UPDATE layers SET {pending} WHERE number = ? AND state = ?",  # noqa: S608 (as above)
                ((PENDING, at, FAILED) for at in sorted(needed)),
            )

    def layer_done(self, number: int, known: KnownLayer, traffic: Traffic) -> None:
        """Record that a layer is done or was skipped."""
        reason = known.result.skipped
        with _problems_of(self._path), self._transaction():
            self._database.execute(
                "UPDATE layers SET state = ?, outcome = ?, reason = ?, code = '' WHERE number = ?",
                (DONE if reason is None else SKIPPED, _outcome(known), reason or "", number),
            )
            self._add(traffic)

    def layer_failed(self, number: int, code: str, reason: str) -> None:
        """Record that a layer failed."""
        with _problems_of(self._path), self._transaction():
            self._database.execute(
                "UPDATE layers SET state = ?, code = ?, reason = ? WHERE number = ?",
                (FAILED, code, reason, number),
            )

    def image_ended(
        self,
        number: int,
        state: str,
        *,
        code: str = "",
        reason: str = "",
        traffic: Traffic | None = None,
    ) -> None:
        """Record the state of an image."""
        with _problems_of(self._path), self._transaction():
            self._database.execute(
                "UPDATE images SET state = ?, code = ?, reason = ? WHERE number = ?",
                (state, code, reason, number),
            )
            self._add(traffic or Traffic())

    def status(self) -> FleetStatus:
        """Return the state of all layers and images."""
        with _problems_of(self._path), self._reading():
            read_size, read = self._database.execute(
                "SELECT coalesce(sum(size), 0), coalesce(sum(CASE WHEN state IN (?, ?) THEN size "
                "END), 0) FROM layers",
                (DONE, SKIPPED),
            ).fetchone()
            problems = self._database.execute(
                "SELECT name, state, code, reason FROM images WHERE state IN (?, ?) "
                "ORDER BY state, number LIMIT ?",
                (FAILED, SKIPPED, _MAX_PROBLEMS),
            ).fetchall()
            return FleetStatus(
                self._meta("plan"),
                self._counts("images"),
                self._counts("layers"),
                read_size,
                read,
                self._traffic(),
                tuple(FleetProblem(*row) for row in problems),
            )

    def close(self) -> None:
        """Close the journal and release its lock."""
        self._database.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read everything from one state, although a run may write meanwhile."""
        self._database.execute("BEGIN")
        try:
            yield
        finally:
            self._database.execute("ROLLBACK")

    def _counts(self, table: str) -> FleetCounts:
        found = dict(
            self._database.execute(
                f"SELECT state, count(*) FROM {table} GROUP BY state"  # noqa: S608 (our own names)
            ).fetchall()
        )
        return FleetCounts(*(found.get(state, 0) for state in _STATES))

    def _meta(self, key: str) -> str:
        return str(
            self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]
        )

    def _traffic(self) -> Traffic:
        return Traffic(*json.loads(self._meta("traffic")))

    def _add(self, traffic: Traffic) -> None:
        total = total_of(self._traffic(), traffic)
        values = [getattr(total, name) for name in Traffic.__slots__]
        self._database.execute(
            "UPDATE meta SET value = ? WHERE key = 'traffic'", (json.dumps(values),)
        )


def status(journal: StrPath) -> FleetStatus:
    """Return the state of a run from its journal, also while it is running.

    Args:
        journal: path of the journal.

    Raises:
        NotFoundError: the journal is missing.
        FormatError: not a journal, or damaged; `what` is ``journal``.
    """
    with Journal.open_for_reading(journal) as opened:
        return opened.status()


def _locked(place: Path) -> sqlite3.Connection:
    path = Path(f"{place}.lock")
    if not place.parent.is_dir():
        raise FileNotFoundError(2, "no such directory", str(place.parent))
    lock = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise ConflictError(
                f"{place}: another run uses this journal",
                hint="Wait for the other run, or name another journal with --journal (journal=).",
            ) from None
        raise _system_error(error, path) from None
    except sqlite3.DatabaseError:
        lock.close()
        raise _not_a_journal(path, "not a lock file of tocsin") from None
    return lock


@contextmanager
def _problems_of(place: Path) -> Iterator[None]:
    """Turn errors of SQLite into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in _SYSTEM_CODES:
            raise _system_error(error, place) from None
        raise _not_a_journal(place, "unexpected content") from None
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, TocsinError):
            raise
        raise _not_a_journal(place, "damaged or not complete") from None


_SYSTEM_CODES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


def _system_error(error: sqlite3.Error, place: Path) -> OSError:
    return OSError(5, f"cannot use the journal ({error.sqlite_errorname})", str(place))


def _not_a_journal(place: Path, problem: str) -> FormatError:
    return FormatError(
        f"{place}: not a journal of tocsin fleet run: {problem}",
        what="journal",
        hint="Name another journal with --journal (journal=), or remove this one to start again.",
    )


def _is_empty(database: sqlite3.Connection) -> bool:
    return not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _create(database: sqlite3.Connection, plan: Plan) -> None:
    """Write everything in one transaction, so that no half-written journal is ever visible."""
    database.execute("PRAGMA synchronous = FULL")
    database.execute("BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        zero = json.dumps([0] * len(Traffic.__slots__))
        database.executemany(
            "INSERT INTO meta VALUES (?, ?)", [("plan", plan.fingerprint), ("traffic", zero)]
        )
        database.executemany(
            "INSERT INTO layers (number, state, size, outcome, reason) VALUES (?, ?, ?, ?, ?)",
            (
                (
                    number,
                    PENDING if each.skipped is None else SKIPPED,
                    each.layer.size if each.is_read else 0,
                    None,
                    each.skipped or "",
                )
                for number, each in enumerate(plan.layers)
            ),
        )
        database.executemany(
            "INSERT INTO images (number, state, name, reason) VALUES (?, ?, ?, ?)",
            (
                (
                    number,
                    PENDING if image.skipped is None else SKIPPED,
                    image.name,
                    image.skipped or "",
                )
                for number, image in enumerate(plan.images)
            ),
        )
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _check(place: Path, database: sqlite3.Connection) -> None:
    identity = database.execute("PRAGMA application_id").fetchone()[0]
    if identity != _APPLICATION_ID:
        raise _not_a_journal(place, "another kind of database, or an empty file")
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found != _VERSION:
        raise _not_a_journal(place, f"unknown version (found {found}, expected {_VERSION})")
    if database.execute("SELECT count(*) FROM meta").fetchone()[0] < 2:  # noqa: PLR2004
        raise _not_a_journal(place, "not complete")
    problem = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise _not_a_journal(place, "damaged")


def _check_plan(place: Path, database: sqlite3.Connection, plan: Plan) -> None:
    found = database.execute("SELECT value FROM meta WHERE key = 'plan'").fetchone()[0]
    if found != plan.fingerprint:
        raise ConflictError(
            f"{place}: the journal of another plan (found {shown(str(found))}, expected "
            f"{plan.fingerprint})",
            hint="Use the plan of this journal, or name another journal with --journal (journal=).",
        )
    counts = [
        database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 (our own names)
        for table in ("layers", "images")
    ]
    if counts != [len(plan.layers), len(plan.images)]:
        raise _not_a_journal(place, "not complete")


def _outcome(known: KnownLayer) -> str:
    result = known.result
    return json.dumps(
        {
            "layer": result.layer.to_dict(),
            "ztoc": None if result.ztoc is None else result.ztoc.to_dict(),
            "skipped": result.skipped,
            "notes": list(result.notes),
            "counts": [result.entry_count, result.span_count, result.uncompressed_size],
            "seconds": result.seconds,
            "disable_xattrs": known.disable_xattrs,
            "repository": known.repository,
        }
    )


def _read_outcome(place: Path, text: str) -> KnownLayer:
    try:
        values: dict[str, Any] = json.loads(text)
        ztoc = values["ztoc"]
        entry_count, span_count, uncompressed_size = values["counts"]
        result = LayerResult(
            _descriptor(values["layer"]),
            ztoc=None if ztoc is None else replace(_descriptor(ztoc), media_type=OCTET_STREAM),
            skipped=values["skipped"],
            notes=tuple(values["notes"]),
            entry_count=entry_count,
            span_count=span_count,
            uncompressed_size=uncompressed_size,
            seconds=values["seconds"],
        )
        return KnownLayer(result, bool(values["disable_xattrs"]), str(values["repository"]))
    except (KeyError, TypeError, ValueError, TocsinError):
        raise _not_a_journal(place, "a layer cannot be read") from None


def _descriptor(values: dict[str, Any]) -> Descriptor:
    return Descriptor(
        str(values["media_type"]), Digest.parse(str(values["digest"])), int(values["size"])
    )

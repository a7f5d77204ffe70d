"""Journals: other plans, other files, damage, two runs at a time, and reading during a run."""

import sqlite3

import pytest

import tocsin
from support import fleets
from support.registry import Registry
from tocsin import fleet
from tocsin.fleet.journal import Journal

ALL = tocsin.IndexingOptions(min_layer_size=0)


@pytest.fixture
def registry():
    with Registry() as started:
        fleets.put(started.host, "app", "base", "one")
        yield started


@pytest.fixture
def plan(registry):
    return fleet.plan(f"{registry.host}/app:1", options=ALL)


@pytest.fixture
def journal(plan, tmp_path):
    fleet.run(plan, tmp_path / "j")
    return tmp_path / "j"


def test_journal_when_of_another_plan_then_conflict(registry, journal):
    fleets.put(registry.host, "app", "base", "two")
    other = fleet.plan(f"{registry.host}/app:1", options=ALL)
    with pytest.raises(tocsin.ConflictError, match="journal of another plan"):
        fleet.run(other, journal)


def test_journal_when_used_by_another_run_then_conflict(plan, journal):
    with (
        Journal.open_for(journal, plan),
        pytest.raises(tocsin.ConflictError, match="another run uses this journal"),
    ):
        fleet.run(plan, journal)
    assert fleet.run(plan, journal).status.is_complete


def test_status_when_a_run_is_going_on_then_it_can_be_read(plan, tmp_path):
    seen = []

    def look(event):
        seen.append((event.images, fleet.status(tmp_path / "j").images))

    fleet.run(plan, tmp_path / "j", progress=look)
    assert len(seen) == 4
    assert all(shown == stored for shown, stored in seen)


def test_status_when_the_journal_is_missing_then_not_found(tmp_path):
    with pytest.raises(tocsin.NotFoundError, match="journal not found"):
        fleet.status(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_run_when_the_directory_is_missing_then_os_error(plan, tmp_path):
    with pytest.raises(FileNotFoundError):
        fleet.run(plan, tmp_path / "none" / "j")


def test_journal_when_it_was_just_created_then_a_new_run_fills_it(plan, tmp_path):
    (tmp_path / "j").touch()
    assert fleet.run(plan, tmp_path / "j").status.is_complete


def with_other_tables(path):
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
    database.close()


def altered(statement):
    def change(path):
        with sqlite3.connect(path) as database:
            database.execute(statement)
        database.close()

    return change


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


DAMAGE = {
    "text": lambda path: path.write_text("not a database" * 100),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "cut": cut,
    "overwritten": lambda path: path.write_bytes(path.read_bytes()[:4096] + b"x" * 12_288),
    "other tables": with_other_tables,
    "version": altered("PRAGMA user_version = 2"),
    "identity": altered("PRAGMA application_id = 1"),
    "no meta": altered("DELETE FROM meta"),
    "no images": altered("DROP TABLE images"),
    "fewer layers": altered("DELETE FROM layers"),
    "outcome": altered("UPDATE layers SET outcome = '{}'"),
    "outcome JSON": altered("UPDATE layers SET outcome = '{'"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_journal_when_damaged_then_format_error(plan, journal, kind):
    with sqlite3.connect(journal) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode = DELETE")
    database.close()
    DAMAGE[kind](journal)
    with pytest.raises(tocsin.FormatError) as caught:
        fleet.run(plan, journal)
    assert caught.value.what == "journal"


@pytest.mark.parametrize("kind", ["text", "cut", "other tables", "no meta"])
def test_status_when_the_journal_is_damaged_then_format_error(journal, kind):
    with sqlite3.connect(journal) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    database.close()
    DAMAGE[kind](journal)
    with pytest.raises(tocsin.FormatError) as caught:
        fleet.status(journal)
    assert caught.value.what == "journal"

"""The database: versions, damage, and what each change refuses."""

import sqlite3

import pytest

from tocsin.errors import FormatError, UnsupportedError
from tocsin.mounting.snapshotter.problems import (
    SnapshotArgumentError,
    SnapshotExistsError,
    SnapshotMissingError,
    SnapshotStateError,
)
from tocsin.mounting.snapshotter.snapshot import Kind, Usage
from tocsin.mounting.snapshotter.state import NAME, VERSION, State


@pytest.fixture
def state(tmp_path):
    opened = State(tmp_path)
    yield opened
    opened.close()


def committed(state, name, parent=""):
    state.create(Kind.ACTIVE, f"{name}-active", parent, {})
    state.commit(f"{name}-active", name, {}, Usage(1, 2))


def test_database_when_of_a_newer_version_then_it_is_refused(tmp_path):
    State(tmp_path).close()
    database = sqlite3.connect(tmp_path / NAME)
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    with pytest.raises(UnsupportedError, match=f"found {VERSION + 1}, expected {VERSION}"):
        State(tmp_path)


def test_database_when_of_another_program_then_it_is_refused(tmp_path):
    database = sqlite3.connect(tmp_path / NAME)
    database.execute("CREATE TABLE t (x)")
    database.close()
    with pytest.raises(FormatError, match="not a database of tocsin's snapshotter"):
        State(tmp_path)


def test_database_when_damaged_then_it_is_refused(tmp_path):
    (tmp_path / NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(FormatError, match="damaged"):
        State(tmp_path)


def test_database_when_made_then_only_its_user_can_read_it(state, tmp_path):
    state.create(Kind.ACTIVE, "a", "", {})
    for path in tmp_path.glob(f"{NAME}*"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_create_when_key_is_used_then_it_is_refused(state):
    state.create(Kind.ACTIVE, "a", "", {})
    with pytest.raises(SnapshotExistsError):
        state.create(Kind.VIEW, "a", "", {})


def test_create_when_parent_is_missing_or_active_then_it_is_refused(state):
    with pytest.raises(SnapshotMissingError):
        state.create(Kind.ACTIVE, "a", "none", {})
    state.create(Kind.ACTIVE, "b", "", {})
    with pytest.raises(SnapshotArgumentError, match="not committed"):
        state.create(Kind.ACTIVE, "c", "b", {})
    assert [each.key for each in state.all()] == ["b"]


def test_commit_when_snapshot_is_a_view_then_it_is_refused(state):
    state.create(Kind.VIEW, "v", "", {})
    with pytest.raises(SnapshotStateError):
        state.commit("v", "c", {}, Usage())


def test_commit_when_parent_is_given_then_ancestors_follow_it(state):
    for name in ("top", "middle", "base"):  # as containerd 2.2 unpacks layers in parallel
        state.create(Kind.ACTIVE, f"{name}-active", "", {})
    state.commit("base-active", "base", {}, Usage())
    state.commit("middle-active", "middle", {}, Usage(), "base")
    state.commit("top-active", "top", {}, Usage(), "middle")
    assert [each.key for each in state.ancestors(state.get("top"))] == ["middle", "base"]
    state.create(Kind.ACTIVE, "other", "base", {})
    with pytest.raises(SnapshotArgumentError, match="parent cannot be changed"):
        state.commit("other", "o", {}, Usage(), "middle")


def test_remove_when_snapshot_has_children_then_it_is_refused(state):
    committed(state, "a")
    committed(state, "b", "a")
    with pytest.raises(SnapshotStateError, match="children"):
        state.remove("a")
    state.remove("b")
    state.remove("a")
    with pytest.raises(SnapshotMissingError):
        state.remove("a")


def test_numbers_when_snapshots_are_removed_then_none_is_used_twice(state):
    first = state.create(Kind.ACTIVE, "a", "", {}).number
    state.remove("a")
    assert state.create(Kind.ACTIVE, "a", "", {}).number == first + 1


def test_transaction_when_it_fails_then_nothing_has_changed(state):
    def create_twice():
        state.create(Kind.ACTIVE, "a", "", {})
        state.create(Kind.ACTIVE, "a", "", {})

    with pytest.raises(SnapshotExistsError), state.transaction():
        create_twice()
    assert state.all() == []

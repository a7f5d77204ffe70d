"""Credentials of pulls: kept in memory only, and given to the processes of mounts."""

import stat

import pytest

from tocsin.mounting.pull_credentials import PullCredentials, ask_for_credential, pull_credential

ALICE = pull_credential(username="alice", password="secret")  # noqa: S106 (of a test)
BOB = pull_credential(identity_token="token")  # noqa: S106 (of a test)


@pytest.fixture
def kept(tmp_path):
    kept = PullCredentials(tmp_path / "run" / "credentials")
    yield kept
    kept.close()


def test_credential_when_given_then_other_processes_get_it(kept):
    assert ask_for_credential(kept.path, "ghcr.io", "team/app") is None  # there is no socket
    kept.give("ghcr.io", "team/app", ALICE)
    assert ask_for_credential(kept.path, "ghcr.io", "team/app") == ALICE
    assert ask_for_credential(kept.path, "ghcr.io", "team/other") is None
    assert ask_for_credential(kept.path, "example.com", "team/app") is None


def test_credential_when_given_again_then_the_newest_is_used(kept):
    kept.give("ghcr.io", "team/app", ALICE)
    kept.give("ghcr.io", "team/app", BOB)
    assert ask_for_credential(kept.path, "ghcr.io", "team/app") == BOB


def test_credential_when_old_then_forgotten(tmp_path):
    now = [0.0]
    kept = PullCredentials(tmp_path / "run" / "credentials", clock=lambda: now[0])
    kept.give("ghcr.io", "team/app", ALICE)
    now[0] = 13 * 3600
    assert kept.find("ghcr.io", "team/app") is None
    kept.close()


def test_credentials_when_many_then_the_oldest_are_forgotten(kept):
    for number in range(1025):
        kept.give("ghcr.io", f"team/{number}", ALICE)
    assert kept.find("ghcr.io", "team/0") is None
    assert kept.find("ghcr.io", "team/1") == ALICE


def test_credential_when_given_then_not_written_to_disk(kept):
    kept.give("ghcr.io", "team/app", ALICE)
    assert [path.name for path in kept.path.parent.iterdir()] == ["credentials"]
    assert kept.path.is_socket()
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    assert "secret" not in repr(kept.find("ghcr.io", "team/app"))


def test_credentials_when_closed_then_none_and_no_socket(kept):
    kept.give("ghcr.io", "team/app", ALICE)
    kept.close()
    assert ask_for_credential(kept.path, "ghcr.io", "team/app") is None
    assert not kept.path.exists()
    kept.give("ghcr.io", "team/app", ALICE)
    assert not kept.path.exists()


def test_pull_when_anonymous_then_no_credential():
    assert pull_credential() is None

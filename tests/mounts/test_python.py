"""``tocsin.mount`` in Python, with real mounts."""

import os
import subprocess
import sys
import time

import pytest

import tocsin
from support.mounts import ACCOUNTS, data_of, is_mounted, names_in


@pytest.fixture(autouse=True)
def directories(machine, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine.run_directory))
    monkeypatch.setenv("TMPDIR", str(machine.directory))
    monkeypatch.setattr("tempfile.tempdir", None)


def mount(machine, layout, **options):
    return tocsin.mount(f"oci:{layout}:seek", cache_dir=machine.cache, **options)


def test_mount_when_with_block_then_directory_is_removed_at_its_end(machine, layout):
    with mount(machine, layout) as path:
        assert (path / "etc/passwd").read_bytes() == ACCOUNTS
        assert is_mounted(path)
    assert not path.exists()


def test_mount_when_directory_is_given_then_it_stays(machine, layout):
    with mount(machine, layout, directory=machine.mount_point) as path:
        assert path == machine.mount_point
    assert names_in(path) == []


def test_mount_when_file_stays_open_then_it_is_readable_after_the_block(machine, layout):
    with mount(machine, layout, background=False) as path:
        file = (path / "data/1.bin").open("rb")
    with file:
        assert not is_mounted(path)
        assert file.read() == data_of(1)


def test_mount_when_asked_then_status_and_values(machine, layout):
    mounted = mount(machine, layout, background=False)
    status = mounted.status()
    assert (status.state, status.index, status.image) == ("lazy", "seek", f"oci:{layout}:seek")
    assert str(mounted.manifest) == status.manifest
    mounted.unmount()
    mounted.unmount()
    with pytest.raises(tocsin.NotFoundError):
        mounted.status()


def test_mount_when_image_is_missing_then_error_and_no_directory(machine, layout):
    before = set(machine.directory.iterdir())
    with pytest.raises(tocsin.NotFoundError, match="none"):
        tocsin.mount(f"oci:{layout}:none", cache_dir=machine.cache)
    assert set(machine.directory.iterdir()) - before <= {machine.cache}


def test_mount_when_no_index_then_note(machine, layout):
    notes = []
    with tocsin.mount(f"oci:{layout}:plain", cache_dir=machine.cache, note=notes.append):
        pass
    assert any("no index" in note for note in notes)


def test_mount_when_program_is_killed_then_mount_ends(machine, layout):
    program = (
        "import os, signal, sys, tocsin; "
        f"m = tocsin.mount({f'oci:{layout}:seek'!r}, cache_dir={str(machine.cache)!r}); "
        "print(m.directory, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    path = done.stdout.strip()
    assert path, done.stderr
    deadline = time.monotonic() + 20
    while os.path.lexists(path):
        assert time.monotonic() < deadline
        time.sleep(0.05)

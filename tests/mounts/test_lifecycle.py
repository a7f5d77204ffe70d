"""Mounting and unmounting, with real mounts: processes, errors, kills."""

import errno
import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import tocsin
from support import json_page
from support.cli_process import TOCSIN
from support.mounts import ACCOUNTS, DATA_FILES, data_of, is_mounted, names_in, wait_for_end
from support.registry import Registry
from tocsin.layers.cache_contents import cache_contents


@pytest.mark.parametrize(("tag", "index"), [("seek", "seek"), ("v2", "v2"), ("plain", "made")])
def test_mount_when_ready_then_every_byte_is_that_of_the_image(machine, layout, tag, index):
    found = machine.mount(f"oci:{layout}:{tag}")
    assert (found["index"], found["directory"]) == (index, str(machine.mount_point))
    assert names_in(machine.mount_point) == ["bin", "data", "etc", "root", "tmp"]
    assert (machine.mount_point / "etc/passwd").read_bytes() == ACCOUNTS
    for number in range(DATA_FILES):
        assert (machine.mount_point / f"data/{number}.bin").read_bytes() == data_of(number)
    assert not (machine.mount_point / "etc/old").exists()
    machine.ok("umount", machine.mount_point)
    assert not machine.is_mounted()
    assert machine.mounts() == []


def test_documents_when_printed_then_as_the_page_says(machine, layout):
    mounted = machine.mount(f"oci:{layout}:plain")
    assert json_page.problems("tocsin mount", mounted) == []
    (machine.mount_point / "etc/passwd").read_bytes()
    assert json_page.problems("tocsin status", machine.status()) == []
    listed = json.loads(machine.ok("mounts", "--json"))
    assert json_page.problems("tocsin mounts", listed) == []
    machine.kill()
    assert json_page.problems("tocsin status", machine.status()) == []


def test_mount_when_run_then_prints_one_line(machine, layout):
    out = machine.ok("mount", f"oci:{layout}:seek", machine.mount_point)
    assert out.startswith(f"{machine.mount_point}: oci:{layout}:seek, seek table, ")
    assert out.count("\n") == 1


def test_mount_when_path_is_relative_then_it_is_served_from_anywhere(machine, layout):
    (machine.directory / "here").symlink_to(layout)
    machine.ok("mount", "oci:here:seek", "mnt")
    assert (machine.mount_point / "data/3.bin").read_bytes() == data_of(3)
    machine.ok("umount", "mnt")
    assert not machine.is_mounted()


def test_status_when_background_then_becomes_complete(machine, layout):
    machine.mount(f"oci:{layout}:seek")
    found = machine.wait_for("complete")
    assert (found["bytes_left"], found["spans_here"]) == (0, found["spans"])
    assert found["bytes_fetched"] > 0
    machine.ok("umount", machine.mount_point)
    # The cache holds everything now.
    machine.mount(f"oci:{layout}:seek")
    found = machine.wait_for("complete")
    assert (found["bytes_fetched"], found["bytes_cached"]) == (0, found["bytes_total"])


def test_status_when_no_background_then_lazy_and_why(machine, layout):
    machine.mount(f"oci:{layout}:seek", "--no-background")
    (machine.mount_point / "data/0.bin").read_bytes()
    found = machine.status()
    assert found["state"] == "lazy"
    assert found["reason"].endswith("background loading is off")
    assert 0 < found["bytes_fetched"] < found["bytes_total"]
    assert found["bytes_fetched"] + found["bytes_left"] >= found["bytes_total"]
    text = machine.ok("status", machine.mount_point)
    assert "seek table" in text


def test_mount_when_killed_then_reads_fail_and_it_is_dead(machine, layout):
    machine.mount(f"oci:{layout}:seek", "--no-background", "--front", "fuse")
    machine.kill()
    with pytest.raises(OSError, match=r".") as caught:
        (machine.mount_point / "data/1.bin").read_bytes()
    assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    assert [each["state"] for each in machine.mounts()] == ["dead"]
    assert machine.status()["state"] == "dead"


@pytest.mark.parametrize("way", ["umount", "clean", "mount"])
def test_dead_mount_when_cleaned_then_the_directory_is_free(machine, layout, way):
    machine.mount(f"oci:{layout}:seek")
    machine.kill()
    if way == "mount":
        machine.mount(f"oci:{layout}:seek")
        assert (machine.mount_point / "etc/passwd").read_bytes() == ACCOUNTS
        machine.ok("umount", machine.mount_point)
    elif way == "clean":
        assert json.loads(machine.ok("mounts", "--clean", "--json"))["mounts"] == []
    else:
        machine.ok("umount", machine.mount_point)
    assert not machine.is_mounted()
    assert names_in(machine.mount_point) == []
    assert machine.mounts() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_mount_when_signalled_then_unmounts_and_writes_the_access_log(machine, layout, number):
    log = machine.directory / "app.log"
    machine.mount(f"oci:{layout}:seek", "--record", log)
    (machine.mount_point / "etc/passwd").read_bytes()
    machine.kill(number)
    assert not machine.is_mounted()
    assert machine.mounts() == []
    header, *files = map(json.loads, log.read_text().splitlines())
    assert header["format"] == "tocsin-access-log"
    assert [each["path"] for each in files] == ["etc/passwd"]
    assert files[0]["ranges"] == [[0, len(ACCOUNTS)]]


def test_mount_when_killed_while_recording_then_no_partial_log(machine, layout):
    log = machine.directory / "app.log"
    machine.mount(f"oci:{layout}:seek", "--record", log)
    (machine.mount_point / "etc/passwd").read_bytes()
    machine.kill()
    assert not log.exists()


def test_access_log_when_given_then_its_files_are_fetched(machine, layout):
    log = machine.directory / "app.log"
    machine.mount(f"oci:{layout}:seek", "--record", log, "--no-background")
    (machine.mount_point / "data/4.bin").read_bytes()
    machine.ok("umount", machine.mount_point)
    options = ["--access-log", log, "--no-background", "--cache-dir", machine.directory / "new"]
    machine.mount(f"oci:{layout}:seek", *options)
    deadline = time.monotonic() + 10
    while machine.status()["bytes_fetched"] < len(data_of(4)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = machine.status()
    assert found["bytes_left"] > 0
    before = found["bytes_fetched"]
    assert (machine.mount_point / "data/4.bin").read_bytes() == data_of(4)
    assert machine.status()["bytes_fetched"] == before


def test_umount_when_in_use_then_error_names_the_process(machine, layout):
    machine.mount(f"oci:{layout}:seek")
    with subprocess.Popen(["sleep", "60"], cwd=machine.mount_point) as user:  # noqa: S607
        done = machine.tocsin("umount", machine.mount_point)
        assert done.returncode == 1
        assert f"in use by sleep ({user.pid})" in done.stderr
        assert machine.is_mounted()
        user.kill()
    machine.ok("umount", machine.mount_point)


def test_umount_when_lazy_then_open_files_stay_readable(machine, layout):
    machine.mount(f"oci:{layout}:seek", "--no-background")
    pid = machine.status()["pid"]
    with (machine.mount_point / "data/2.bin").open("rb") as file:
        machine.ok("umount", "--lazy", machine.mount_point)
        assert not machine.is_mounted()
        assert machine.mounts() == []
        assert file.read() == data_of(2)
    wait_for_end(pid)


def test_umount_when_nothing_is_mounted_then_not_found(machine):
    done = machine.tocsin("umount", machine.mount_point)
    assert done.returncode == 3
    assert "no image is mounted there" in done.stderr


def test_umount_when_unmounted_by_another_program_then_process_ends(machine, layout):
    machine.mount(f"oci:{layout}:seek")
    pid = machine.status()["pid"]
    subprocess.run(["umount", machine.mount_point], check=True)  # noqa: S603, S607
    wait_for_end(pid)
    assert machine.mounts() == []


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (lambda path: path.rmdir(), 3, "directory not found"),
        (lambda path: (path / "x").touch(), 1, "directory not empty"),
        (lambda path: (path.rmdir(), path.touch()), 1, "not a directory"),
    ],
    ids=["missing", "not-empty", "file"],
)
def test_mount_when_directory_is_unusable_then_one_line(machine, layout, prepare, code, message):
    prepare(machine.mount_point)
    done = machine.tocsin("mount", f"oci:{layout}:seek", machine.mount_point)
    assert done.returncode == code
    error, hint = done.stderr.splitlines()
    assert message in error
    assert hint.startswith("hint: ")


def test_mount_when_mounted_already_then_conflict(machine, layout):
    machine.mount(f"oci:{layout}:seek")
    done = machine.tocsin("mount", f"oci:{layout}:v2", machine.mount_point)
    assert done.returncode == 1
    assert "is already mounted there" in done.stderr
    assert (machine.mount_point / "etc/passwd").read_bytes() == ACCOUNTS


def test_mount_when_image_is_missing_then_nothing_is_left(machine, layout):
    done = machine.tocsin("mount", f"oci:{layout}:none", machine.mount_point)
    assert done.returncode == 3
    assert machine.mounts() == []
    assert not machine.is_mounted()


def test_foreground_when_unmounted_then_ends_with_success(machine, layout):
    command = [TOCSIN, "mount", "--foreground", f"oci:{layout}:seek", str(machine.mount_point)]
    with subprocess.Popen(  # noqa: S603
        command, env=machine.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith(f"{machine.mount_point}: ")
        assert (machine.mount_point / "etc/passwd").read_bytes() == ACCOUNTS
        assert machine.status()["pid"] == process.pid
        machine.ok("umount", machine.mount_point)
        assert process.wait(20) == 0


def test_log_when_given_then_it_gets_the_messages(machine, layout):
    log = machine.directory / "messages"
    machine.mount(f"oci:{layout}:plain", "--log", log)
    machine.ok("umount", machine.mount_point)
    assert log.exists()


def test_mount_when_the_cache_is_full_then_layers_of_no_mount_are_removed(machine, layout):
    options = ("--cache-dir", machine.cache)
    machine.mount(f"oci:{layout}:seek", *options)
    machine.wait_for("complete")
    before = {layer.name for layer in cache_contents(machine.cache).layers}
    machine.ok("umount", machine.mount_point)
    machine.mount(f"oci:{layout}:v2", *options, "--cache-size", "1")
    machine.wait_for("complete")
    kept = before
    for _ in range(200):
        kept = {layer.name for layer in cache_contents(machine.cache).layers}
        if not kept & before:
            break
        time.sleep(0.05)
    assert kept
    assert not kept & before
    assert (machine.mount_point / "data/3.bin").read_bytes() == data_of(3)


def test_mounts_when_several_share_a_cache_then_all_read_the_same(machine, layout):
    directories = [machine.directory / f"mnt{number}" for number in range(5)]

    def mount(directory):
        directory.mkdir()
        machine.ok("mount", f"oci:{layout}:seek", directory)
        return [(directory / f"data/{n}.bin").read_bytes() for n in range(DATA_FILES)]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(mount, directories))
    assert found == [[data_of(number) for number in range(DATA_FILES)]] * len(directories)
    assert len(machine.mounts()) == len(directories)
    machine.ok("umount", *directories)
    assert not any(map(is_mounted, directories))


def test_mount_when_two_want_one_directory_then_one_gets_it(machine, layout):
    def mount(tag):
        return machine.tocsin("mount", f"oci:{layout}:{tag}", machine.mount_point)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(mount, ["seek", "v2"]))
    assert sorted(each.returncode for each in done) == [0, 1], [each.stderr for each in done]
    assert len(machine.mounts()) == 1
    machine.ok("umount", machine.mount_point)
    assert not machine.is_mounted()


def test_mount_when_interrupted_while_opening_then_nothing_is_left(machine, layout):
    with Registry() as registry:
        tocsin.copy(f"oci:{layout}:plain", f"{registry.host}/app:1")
        registry.fault("GET", "/blobs/", times=1000, stall=True, close_after=0)
        # A shell that runs the tests in the background lets them ignore SIGINT.
        program = ["env", "--default-signal=INT", TOCSIN]
        command = [*program, "mount", f"{registry.host}/app:1", str(machine.mount_point)]
        with subprocess.Popen(command, env=machine.environment) as process:  # noqa: S603
            deadline = time.monotonic() + 20
            while [each["state"] for each in machine.mounts()] != ["starting"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            pid = machine.mounts()[0]["pid"]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 128 + signal.SIGINT
        wait_for_end(pid)
    assert machine.mounts() == []
    assert not machine.is_mounted()

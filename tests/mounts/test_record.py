"""``tocsin record``: real programs, whose files are recorded, pushed and used."""

import json
import os
import signal
import subprocess
import time

import pytest

import tocsin
from support import json_page
from support.cli_process import TOCSIN
from support.mounts import data_of
from support.registry import Registry
from tocsin.model.access_log import AccessLog


@pytest.fixture
def image(layout):
    return f"oci:{layout}:seek"


def quiet(*names):
    """Return a command that reads files and prints nothing."""
    return ["sh", "-c", 'cat "$@" > /dev/null', "cat", *names]


def paths(file):
    return [each.path for each in AccessLog.read(file).files]


def test_record_when_program_ends_then_its_files_in_order(machine, image):
    done = machine.tocsin(
        "record", image, "-o", "app.log", "--", *quiet("/data/3.bin", "/data/1.bin", "/etc/passwd")
    )
    assert done.returncode == 0, done.stderr
    log = AccessLog.read(machine.directory / "app.log")
    names = [file.path for file in log.files]
    assert "bin/busybox" in names
    assert [name for name in names if name.startswith("data")] == ["data/3.bin", "data/1.bin"]
    sizes = {file.path: sum(end - start for start, end in file.ranges) for file in log.files}
    assert sizes["data/3.bin"] == len(data_of(3))
    assert log.image == tocsin.open(image).descriptor.digest
    first, second = done.stdout.splitlines()
    assert first == "the program ended with exit code 0"
    assert second.startswith(f"app.log: {len(names)} files, ")
    assert second.endswith(" compressed")
    assert machine.mounts() == []
    assert not [path for path in machine.directory.iterdir() if path.name.startswith("tocsin-r")]


def test_record_when_merging_then_the_file_keeps_what_it_lists(machine, image):
    machine.ok("record", image, "-o", "app.log", "--", *quiet("/data/3.bin"))
    machine.ok("record", image, "-o", "app.log", "--merge", "--", *quiet("/data/2.bin"))
    assert {"data/2.bin", "data/3.bin"} <= set(paths(machine.directory / "app.log"))
    machine.ok("record", image, "-o", "app.log", "--", *quiet("/data/1.bin"))
    assert "data/2.bin" not in paths(machine.directory / "app.log")


def test_record_when_several_runs_then_merged(machine, image):
    out = machine.ok(
        "record", image, "-o", "app.log", "--json", "--runs", "2", "--", "cat", "/etc/passwd"
    )
    document = json.loads(out)
    assert (document["runs"], document["exit_code"], document["stopped"]) == (2, 0, False)
    log = AccessLog.read(machine.directory / "app.log")
    assert document["log"]["files"] == len(log.files)
    assert document["log"]["bytes"] == log.size
    assert document["log"]["spans"] >= 1
    assert document["log"]["span_bytes"] > 0


def test_record_when_program_fails_then_written_but_not_pushed(machine, layout, image):
    done = machine.tocsin(
        "record", image, "-o", "app.log", "--push", "--", "sh", "-c", "cat /etc/passwd; exit 3"
    )
    assert done.returncode == 3
    assert "nothing is pushed, since the program failed with exit code 3" in done.stderr
    assert "etc/passwd" in paths(machine.directory / "app.log")
    assert tocsin.indexes(image).platforms[0].access_logs == ()


def test_record_when_time_is_up_then_stopped_and_the_log_is_kept(machine, image):
    begun = time.monotonic()
    done = machine.tocsin(
        "record",
        image,
        "-o",
        "app.log",
        "--seconds",
        "2",
        "--",
        "sh",
        "-c",
        "cat /etc/group; sleep 99",
    )
    assert done.returncode == 0, done.stderr
    assert "the program was stopped" in done.stdout
    assert time.monotonic() - begun < 60
    assert "etc/group" in paths(machine.directory / "app.log")


def test_record_when_time_is_up_and_sigterm_is_ignored_then_killed(machine, image):
    script = "trap '' TERM; cat /etc/group; while true; do sleep 1; done"
    done = machine.tocsin(
        "record", image, "-o", "app.log", "--seconds", "1", "--", "sh", "-c", script
    )
    assert done.returncode == 0, done.stderr
    assert "etc/group" in paths(machine.directory / "app.log")


def test_record_when_interrupted_then_the_log_is_kept(machine, image):
    command = [TOCSIN, "record", image, "-o", "app.log", "--runs", "5", "--"]
    process = subprocess.Popen(  # noqa: S603 (our own program)
        [*command, "sh", "-c", "cat /etc/group; echo started; sleep 99"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=machine.environment,
        cwd=machine.directory,
        start_new_session=True,
    )
    while process.stderr.readline() != "started\n":
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, messages = process.communicate(timeout=60)
    assert process.returncode == 0, messages
    assert out.startswith("the program was stopped\n")
    assert "etc/group" in paths(machine.directory / "app.log")
    assert machine.mounts() == []


def test_record_when_there_is_no_place_for_the_log_then_usage_error(machine, image):
    done = machine.tocsin("record", image, "--", "true")
    assert done.returncode == 2
    assert "give -o FILE, --push or --soci" in done.stderr


def test_record_when_pushed_then_a_new_machine_fetches_it_before_any_read(machine, layout):
    with Registry() as registry:
        name = f"{registry.host}/app:1"
        tocsin.copy(f"oci:{layout}:seek", name)
        document = json.loads(
            machine.ok("record", name, "--push", "--json", "--", *quiet("/data/3.bin"))
        )
        assert json_page.problems("tocsin record", document) == []
        used = document["pushed"]["manifest"]["digest"]
        cache = ["--cache-dir", machine.directory / "new", "--no-background"]
        machine.mount(name, *cache)
        deadline = time.monotonic() + 60
        while (found := machine.status())["spans_here"] < document["log"]["spans"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert (found["access_log"], found["reads"]) == (used, 0)
        registry.__exit__()
        assert (machine.mount_point / "data/3.bin").read_bytes() == data_of(3)


def test_record_when_push_fails_then_its_log_can_be_pushed_later(machine, layout):
    with Registry() as registry:
        name = f"{registry.host}/app:1"
        tocsin.copy(f"oci:{layout}:seek", name)
        fault = registry.fault("POST", "/blobs/uploads", status=403, times=100)
        done = machine.tocsin("record", name, "--push", "--", "cat", "/etc/group")
        assert done.returncode == 6, done.stderr
        kept = done.stderr.split("--from ")[1].split()[0]
        assert "etc/group" in paths(kept)
        registry.faults.remove(fault)
        out = machine.ok("record", name, "--push", "--json", "--from", kept)
        assert json.loads(out)["pushed"]["unchanged"] is False


def test_record_when_soci_then_an_index_with_prefetch_artifacts(machine, layout, tmp_path):
    copied = f"oci:{tmp_path}/copy:1"
    tocsin.copy(f"oci:{layout}:plain", copied)
    options = ["--soci", "--min-layer-size", "0", "--json"]
    document = json.loads(machine.ok("record", copied, *options, "--", *quiet("/data/3.bin")))
    (platform,) = tocsin.info(copied).platforms
    assert [str(each.digest) for each in platform.soci_indexes] == document["soci_indexes"]
    assert "/data/3.bin" in {path for each in platform.prefetches for path in each.files}
    assert document["pushed"] is None


def test_convert_when_given_an_access_log_then_its_files_are_prefetched(machine, layout, image):
    machine.ok("record", image, "-o", "app.log", "--", *quiet("/data/3.bin"))
    new = f"oci:{machine.directory}/new:1"
    machine.ok(
        "convert", f"oci:{layout}:plain", new, "--min-layer-size", "0", "--prefetch-list", "app.log"
    )
    (platform,) = tocsin.info(new).platforms
    assert "/data/3.bin" in {path for each in platform.prefetches for path in each.files}

"""``tocsin doctor``: the table, the fixes and the exit code."""

import json

import pytest

from support.cli_in_process import tocsin
from tocsin.mounting import doctor
from tocsin.mounting.doctor_check import Check, State

GOOD = Check("system", State.OK, "Linux 6.18.0")
LIMITED = Check("erofs", State.LIMITED, "the kernel has no EROFS", "sudo modprobe erofs")
BAD = Check("fuse", State.FAILED, "/dev/fuse is missing", "sudo modprobe fuse")


@pytest.fixture
def found(monkeypatch):
    """The results of the checks, in place of those of this machine."""
    checks = []
    monkeypatch.setattr(doctor, "diagnose", lambda _: doctor.Diagnosis(tuple(checks)))
    return checks


def test_doctor_when_all_works_then_a_table_and_exit_code_0(found):
    found.append(GOOD)
    done = tocsin("doctor")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "CHECK   STATE  FOUND",
        "system  ok     Linux 6.18.0",
        "",
        "this machine can mount images",
    ]


def test_doctor_when_limited_then_it_says_what_would_help_with_code_0(found):
    found.extend([GOOD, LIMITED])
    done = tocsin("doctor")
    assert done.returncode == 0
    assert "\nWhat would help\nerofs  sudo modprobe erofs\n" in done.stdout.decode()


def test_doctor_when_mounting_does_not_work_then_exit_code_1(found):
    found.extend([BAD, LIMITED])
    done = tocsin("doctor")
    assert done.returncode == 1
    text = done.stdout.decode()
    assert "\nfuse   sudo modprobe fuse\nerofs  sudo modprobe erofs\n" in text
    assert text.endswith("\nthis machine cannot mount images\n")


def test_doctor_when_json_then_the_document_and_the_same_exit_code(found):
    found.append(BAD)
    done = tocsin("doctor", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (
        1,
        {"ok": False, "checks": [BAD.to_dict()]},
    )


def test_doctor_when_run_on_this_machine_then_it_prints_checks():
    done = tocsin("doctor", "--json")
    assert done.returncode in (0, 1)
    assert len(json.loads(done.stdout)["checks"]) >= 1

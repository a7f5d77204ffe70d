"""The script of ``tocsin am-i-lazy`` inside of real containers, and with the roots of others."""

import subprocess
from pathlib import Path

import pytest

from tocsin.cli.commands.am_i_lazy import SCRIPT


@pytest.mark.parametrize("options", [[], ["--read-only"]], ids=["writable", "read-only"])
def test_script_when_run_in_a_mounted_image_then_lazy(machine, layout, options):
    script = SCRIPT.read_text()
    done = machine.tocsin("run", *options, f"oci:{layout}:seek", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "lazy: the root is an overlay on a mount of tocsin\n"


@pytest.mark.parametrize("front", ["fuse", "auto"])
def test_script_when_the_root_is_the_mount_itself_then_lazy(machine, layout, front):
    machine.mount(f"oci:{layout}:seek", "--front", front)
    lines = Path("/proc/self/mountinfo").read_text().splitlines(keepends=True)
    (line,) = (each for each in lines if f" {machine.mount_point} " in each)
    file = machine.directory / "mountinfo"
    file.write_text(line.replace(f" {machine.mount_point} ", " / "))
    done = subprocess.run(  # noqa: S603 (our own script)
        ["/bin/sh", SCRIPT, file], capture_output=True, text=True, check=False, timeout=60
    )
    kind = "an EROFS" if " - erofs " in line else "a FUSE"
    assert (done.returncode, done.stdout) == (0, f"lazy: the root is {kind} mount of tocsin\n")

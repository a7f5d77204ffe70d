"""The process of a mount ends as itself, whatever happens in it."""

import subprocess
import sys

import pytest

PROGRAM = """
import logging, os, sys
from pathlib import Path
from tocsin.errors import TocsinError
from tocsin.model.reference import parse_reference
from tocsin.mounting import process
from tocsin.mounting.options import MountOptions

class Report:
    def note(self, text): pass
    def progress(self, event): pass
    def ready(self, ready): pass

def interrupted():
    raise SystemExit(3)  # as a signal handler does

directory = Path(sys.argv[1])
out = os.dup(1)  # the child redirects its own
process.prepare = lambda *_: None
logging.shutdown = interrupted
reference = parse_reference(f"oci:{directory}/missing:x")
options = MountOptions(reference=reference, cache_dir=directory / "cache")
try:
    process.fork(options, str(directory), Report())
except (TocsinError, OSError, SystemExit):
    os.write(out, b"failed\\n")
os.wait()
os.write(out, b"end\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts exist only on Linux")
def test_fork_when_interrupted_at_its_end_then_child_does_not_continue(tmp_path):
    done = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, check=False, timeout=60
    )
    assert done.stdout == b"failed\nend\n", done.stderr

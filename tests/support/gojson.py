"""A Go program that decodes and encodes JSON documents."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from support.tools import missing

SOURCE = Path(__file__).parent / "gojson"


class GoJson:
    """A running ``gojson`` program; see its ``main.go``."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 (built from this repository)
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin
        assert self._process.stdout
        self._questions = self._process.stdin
        self._answers = self._process.stdout

    def ask(self, kind: str, document: bytes) -> bytes | None:
        """Return the document, decoded and encoded by Go, or ``None`` if Go rejects it."""
        self._questions.write(json.dumps({"kind": kind, "hex": document.hex()}).encode() + b"\n")
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._answers.read(1 << 16)
        answer = bytes(line[:-1])
        return None if answer == b"error" else answer

    def close(self) -> None:
        self._questions.close()
        self._process.wait(10)
        self._answers.close()


def build_gojson(directory: Path) -> GoJson:
    """Compile and start the program, or skip the test if Go is missing."""
    go = shutil.which("go")
    if go is None:
        missing("go is not installed: cannot compare with Go's JSON")
    program = directory / "gojson"
    subprocess.run(  # noqa: S603 (built from this repository)
        [go, "build", "-buildvcs=false", "-o", program, "."], cwd=SOURCE, check=True, timeout=300
    )
    return GoJson(program)

"""The programs that tocsin is compared with: their commands, versions and installation."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tools

if TYPE_CHECKING:
    from collections.abc import Sequence

_REQUIREMENTS = Path(__file__).resolve().with_name("requirements.txt")

# The variable matters: without a reference, the file is freed during the call, which crashes.
_INDEXED_GZIP = (
    "import sys, indexed_gzip; "
    "file = indexed_gzip.IndexedGzipFile(sys.argv[1], spacing=4 << 20); "
    "file.build_full_index()"
)
# The default command of `tocsin`.
BUILD = "{python} -m tocsin ztoc build {layer} --threads {cpus} -o {out}"
_INFLATE = (
    "import sys, collections; from {module} as gzip; "
    "file = gzip.open(sys.argv[1]); buffer = bytearray(1 << 18); "
    "collections.deque(iter(lambda: file.readinto(buffer), 0), maxlen=0)"
)


# Measures a call as in a script or a build system, without the imports. The times are written to a
# file next to the index.
_CALL = (
    "import json, resource, sys, time; {imports}; "
    "layer, out, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]); "
    "used = lambda: resource.getrusage(resource.RUSAGE_SELF); "
    "wall, before = time.perf_counter(), used(); "
    "{work}; "
    "wall, after = time.perf_counter() - wall, used(); "
    "user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime; "
    "took = {{'wall': wall, 'user': user, 'system': system}}; "
    "json.dump(took, open(out + '.took', 'w'))"
)
# tocsin imports lazily, so the name must be imported before the measurement.
_BUILD_ZTOC = _CALL.format(
    imports="from tocsin import build_ztoc",
    work="open(out, 'wb').write(build_ztoc(layer, threads=threads).to_bytes())",
)
_INFLATE_SPANS = _CALL.format(
    imports="from tocsin import build_ztoc; ztoc = build_ztoc(sys.argv[1]); "
    "data = memoryview(open(sys.argv[1], 'rb').read()); "
    "ranges = [ztoc.span_range(number) for number in range(ztoc.span_count)]",
    work="size = sum(len(ztoc.inflate_span(number, data[start:end])) "
    "for number, (start, end) in enumerate(ranges)); "
    "assert size >= ztoc.uncompressed_archive_size",
)
_RAPIDGZIP = _CALL.format(
    imports="import rapidgzip",
    work="file = rapidgzip.open(layer, parallelization=threads); "
    "file.export_index(out); file.close()",
)


@dataclass(frozen=True)
class Tool:
    """One command to be measured.

    Attributes:
        name: its name in the tables.
        work: what it does and does not do.
        command: its arguments; `{python}`, `{layer}`, `{out}` and `{cpus}` are replaced with the
            interpreter, the layer, the output file and the number of threads.
        version: the command that prints its version.
        reports_itself: whether it writes its times to `{out}` plus ``.took``.
    """

    name: str
    work: str
    command: tuple[str, ...]
    version: tuple[str, ...]
    reports_itself: bool = False

    def words(self, python: str, *, layer: str = "", out: str = "", cpus: int = 1) -> list[str]:
        """Return the command with its placeholders replaced."""
        gaps = {"{python}": python, "{layer}": layer, "{out}": out, "{cpus}": str(cpus)}
        first, *rest = [_fill(word, gaps) for word in self.command]
        return [_program(first, python), *rest]

    def version_here(self, python: str) -> str | None:
        """Return the version in the environment of `python`; None if the tool is not installed."""
        first, *rest = [_fill(word, {"{python}": python}) for word in self.version]
        path = tools.find(_program(first, python))
        if path is None:
            return None
        done = subprocess.run([path, *rest], check=False, capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        return next((line.strip() for line in lines if line.strip()), "unknown")


def tocsin(command: str) -> Tool:
    """Return tocsin as run with `command`, which has the placeholders of `Tool.command`."""
    words = shlex.split(command)
    program = words[: words.index("ztoc")] if "ztoc" in words else words[:1]
    work = "zTOC: checkpoints, CRC-32, file list, digests of spans and layer"
    return Tool("tocsin", work, tuple(words), (*program, "--version"))


PEERS = (
    Tool(
        "rapidgzip",
        "index with windows; CRC-32; no file list, no digests",
        ("rapidgzip", "-P", "{cpus}", "-q", "-f", "--export-index", "{out}", "{layer}"),
        ("rapidgzip", "--version"),
    ),
    Tool(
        "indexed_gzip",
        "index with windows every 4 MiB, kept in memory; CRC-32; no file list, no digests",
        ("{python}", "-c", _INDEXED_GZIP, "{layer}"),
        ("{python}", "-c", "import indexed_gzip; print(indexed_gzip.__version__)"),
    ),
    Tool(
        "gztool",
        "index with compressed windows every 4 MiB; no file list, no digests",
        ("gztool", "-i", "-f", "-s", "4", "-v", "0", "-I", "{out}", "{layer}"),
        ("gztool", "-h"),
    ),
    Tool(
        "igzip -t", "inflate and CRC-32 only (ISA-L)", ("igzip", "-t", "{layer}"), ("igzip", "-V")
    ),
    Tool(
        "pigz -t",
        "inflate and CRC-32 only (zlib)",
        ("pigz", "-t", "-p", "{cpus}", "{layer}"),
        ("pigz", "--version"),
    ),
    Tool(
        "isal",
        "inflate and CRC-32 only, from Python: a newer ISA-L than Debian's igzip",
        ("{python}", "-c", _INFLATE.replace("{module}", "isal import igzip"), "{layer}"),
        ("{python}", "-c", "import isal; print(isal.ISAL_VERSION)"),
    ),
    Tool(
        "zlib-ng",
        "inflate and CRC-32 only, from Python",
        ("{python}", "-c", _INFLATE.replace("{module}", "zlib_ng import gzip_ng"), "{layer}"),
        ("{python}", "-c", "from zlib_ng import zlib_ng; print(zlib_ng.ZLIBNG_RUNTIME_VERSION)"),
    ),
    Tool(
        "libdeflate-gunzip -t",
        "inflate and CRC-32 only, the whole layer in memory",
        ("libdeflate-gunzip", "-t", "{layer}"),
        ("libdeflate-gunzip", "-V"),
    ),
)
DEBIAN = ("gztool", "igzip", "pigz", "libdeflate-gunzip")


def install(python: str) -> None:
    """Install the peers: Python packages into the environment of `python`, others with apt-get."""
    tools.run(python, "-m", "pip", "install", "--quiet", "--requirement", _REQUIREMENTS)
    tools.install(DEBIAN)


def as_typed(command: Sequence[str]) -> str:
    """Return a command as typed in a shell, with its placeholders."""
    return " ".join(f"'{word}'" if " " in word else word for word in command)


def _fill(word: str, gaps: dict[str, str]) -> str:
    for gap, value in gaps.items():
        word = word.replace(gap, value)
    return word


def _program(name: str, python: str) -> str:
    """Return the program's path, preferring one next to `python`, as in a virtual environment."""
    beside = Path(python).parent / name
    return str(beside) if beside.exists() else tools.find(name) or name


def build_ztoc() -> Tool:
    """Return `tocsin.build_ztoc`, called in an interpreter that has imported it."""
    return Tool(
        "build_ztoc",
        "as tocsin, without starting the interpreter and the imports",
        ("{python}", "-c", _BUILD_ZTOC, "{layer}", "{out}", "{cpus}"),
        ("{python}", "-m", "tocsin", "--version"),
        reports_itself=True,
    )


def inflate_spans() -> Tool:
    """Return `Ztoc.inflate_span` for each span of a layer, whose zTOC is made before."""
    return Tool(
        "inflate",
        "digests of spans, and inflate from their checkpoints",
        ("{python}", "-c", _INFLATE_SPANS, "{layer}", "{out}", "{cpus}"),
        ("{python}", "-m", "tocsin", "--version"),
        reports_itself=True,
    )


def rapidgzip_call() -> Tool:
    """Return rapidgzip's Python binding, called in an interpreter that has imported it."""
    return Tool(
        "rapidgzip.open",
        "as rapidgzip, without starting the interpreter and the import",
        ("{python}", "-c", _RAPIDGZIP, "{layer}", "{out}", "{cpus}"),
        ("rapidgzip", "--version"),
        reports_itself=True,
    )

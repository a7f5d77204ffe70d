"""Build the wheels and the sdist for Linux, check each, and print a table of the checks.

Run by ``make wheels``. The wheel for this machine must pass all checks. A wheel for another target
is left out with the reason if no compiler for it can be had, or if nothing here can run it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compilers import NoCompilerError, environment_for

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".build" / "packaging"
NATIVE = f"{platform.machine()}-unknown-linux-gnu"
TARGETS = {
    "x86_64-unknown-linux-gnu": "manylinux2014",
    "aarch64-unknown-linux-gnu": "manylinux2014",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}
CHECKS = ("built", "auditwheel", "abi3audit", "twine", "contents", "ran")
OK = "ok"
_DATA = ROOT / "packaging" / "data"


@dataclass
class Row:
    """One file, and the result of each check: ``ok``, or what is wrong or was not done."""

    name: str
    results: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a check has failed; what was not done does not count."""
        return any(
            not (result == OK or result.startswith("not ")) for result in self.results.values()
        )


def main() -> int:
    """Build and check; return 1 if the wheel for this machine or the sdist is not good."""
    parser = argparse.ArgumentParser(description="Build and check wheels.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: all")
    parser.add_argument("--no-sdist", action="store_true")
    args = parser.parse_args()
    tools = _tools()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, required = [], []
    targets = args.target or sorted(TARGETS, key=lambda target: target != NATIVE)
    for target in targets:
        row = _wheel(target, args.out, tools)
        rows.append(row)
        if target == NATIVE:
            required.append(row)
    if not args.no_sdist:
        rows.append(_sdist(args.out, tools))
        required.append(rows[-1])
    _print(rows)
    return int(any(row.failed for row in rows) or any(not row.results for row in required))


def _tools() -> Path:
    """Return the directory of the programs of requirements.txt, which are installed if missing."""
    venv, wanted = WORK / "venv", Path(__file__).with_name("requirements.txt")
    stamp = venv / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        print("==> installing the tools of packaging/requirements.txt", flush=True)
        _make_venv(venv)
        _run(venv / "bin/python", "-m", "pip", "install", "--quiet", "-r", wanted)
        stamp.write_text(wanted.read_text())
    return venv / "bin"


def _make_venv(venv: Path, python: str = sys.executable) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    _run(python, "-m", "venv", venv)


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, stdout=subprocess.PIPE)


def _attempt(*words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program; return ``ok`` or the last line that it printed."""
    done = subprocess.run(
        words,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=env,
    )
    lines = done.stdout.strip().splitlines()
    return OK if done.returncode == 0 else f"FAILED: {lines[-1] if lines else done.returncode}"


def _environment(tools: Path, **changes: str) -> dict[str, str]:
    return {**os.environ, **changes, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}


def _wheel(target: str, out: Path, tools: Path) -> Row:
    print(f"==> {target}", flush=True)
    row = Row(f"{target} ({TARGETS[target]})")
    try:
        compiler = environment_for(target, WORK / "rust")
    except NoCompilerError as error:
        row.results["built"] = f"not built: {error}"
        return row
    made = WORK / "wheels" / target
    shutil.rmtree(made, ignore_errors=True)
    # The profile of Cargo.toml: fat link-time optimization, one code generation unit.
    row.results["built"] = _attempt(
        *(tools / "maturin", "build", "--release", "--locked", "--zig", "--target", target),
        *("--compatibility", TARGETS[target], "--out", made),
        cwd=ROOT,
        env=_environment(tools, CARGO_TARGET_DIR=str(WORK / "target"), **compiler),
    )
    if row.results["built"] != OK:
        if target != NATIVE:
            row.results["built"] = f"not built: {row.results['built']}"
        return row
    (wheel,) = made.glob("*.whl")
    row.name = wheel.name
    row.results |= {
        "auditwheel": _audit(wheel, tools),
        "abi3audit": _attempt(tools / "abi3audit", "--strict", wheel),
        "twine": _attempt(tools / "twine", "check", "--strict", wheel),
        "contents": _contents(wheel),
        "ran": _ran(wheel) if target == NATIVE else "not run: see packaging/install.py",
    }
    for old in out.glob("*.whl"):
        if old.name == wheel.name:
            old.unlink()
    shutil.copy(wheel, out)
    return row


def _audit(wheel: Path, tools: Path) -> str:
    """Return whether auditwheel finds that the wheel keeps to the platform of its name."""
    # Without directories, because auditwheel would look at the libraries of this machine, and these
    # are not those of the target: it stops at each file that has the same name and is not ELF.
    # One is libc.so, which is the name of musl and, with glibc, of a text for the linker.
    environment = {
        name: value for name, value in os.environ.items() if name != "AUDITWHEEL_LD_LIBRARY_PATH"
    }
    done = subprocess.run(
        [tools / "auditwheel", "show", "--json", "--ldpaths", "", wheel],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        return f"FAILED: {' '.join(done.stderr.strip().splitlines()[-1:])}"
    return _platform_verdict(json.loads(done.stdout), wheel.stem.rpartition("-")[2])


def _platform_verdict(found: dict[str, Any], tags: str) -> str:
    """Return whether what auditwheel reports fits the platform tags of a wheel's name."""
    # auditwheel expects the name that Alpine gives to musl. The linker uses musl's own, libc.so,
    # and musl's loader takes this as itself: it reserves the name (ldso/dynlink.c, load_library).
    libraries = set(found["external_libs"]) - ({"libc.so"} if "musllinux" in tags else set())
    if libraries:
        return f"FAILED: needs {', '.join(sorted(libraries))}"
    if found["unsupported_isa"]:
        return "FAILED: needs instructions that not all machines have"
    allowed = max(_libc_versions(tags), default=(0, 0))
    needed = _libc_versions(found["sym_tag"])
    return OK if needed and max(needed) <= allowed else f"FAILED: needs {found['sym_tag']}"


def _libc_versions(tags: str) -> list[tuple[int, int]]:
    """Return the versions in tags such as ``manylinux_2_17_x86_64``."""
    found = re.findall(r"(?:many|musl)linux_(\d+)_(\d+)_", tags)
    return [(int(major), int(minor)) for major, minor in found]


def _contents(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    wanted = [
        *(f".data/{file.relative_to(_DATA)}" for file in _DATA.rglob("*") if file.is_file()),
        *("tocsin/py.typed", "tocsin/_core.abi3.so", ".dist-info/licenses/LICENSE"),
    ]
    missing = [end for end in wanted if not any(name.endswith(end) for name in names)]
    return OK if not missing else f"FAILED: {missing[0]} is missing"


def _ran(wheel: Path) -> str:
    """Install the wheel where no compiler can be found, and run the smoke test."""
    venv = WORK / "clean"
    _make_venv(venv)
    clean = {**os.environ, "PATH": "/usr/bin:/bin"}
    if shutil.which("cargo", path=clean["PATH"]):
        clean["PATH"] = str(venv / "bin")
    python = venv / "bin/python"
    result = _attempt(python, "-m", "pip", "install", "--quiet", wheel, env=clean)
    if result == OK:
        result = _attempt(python, "-P", Path(__file__).with_name("smoke.py"), env=clean, cwd=venv)
    return result


def _sdist(out: Path, tools: Path) -> Row:
    print("==> sdist", flush=True)
    made = WORK / "sdist"
    shutil.rmtree(made, ignore_errors=True)
    row = Row("sdist")
    row.results["built"] = _attempt(
        tools / "maturin", "sdist", "--out", made, cwd=ROOT, env=_environment(tools)
    )
    if row.results["built"] != OK:
        return row
    (archive,) = made.glob("*.tar.gz")
    row.name = archive.name
    row.results["twine"] = _attempt(tools / "twine", "check", "--strict", archive)
    with tarfile.open(archive) as tar:
        tar.extractall(made, filter="data")
    (source,) = (path for path in made.iterdir() if path.is_dir())
    wanted = ("tests/test_golden.py", "docs/install.md", "Makefile", "Cargo.lock", "LICENSE")
    missing = [name for name in wanted if not (source / name).exists()]
    row.results["contents"] = OK if not missing else f"FAILED: {missing[0]} is missing"
    # Not with link-time optimization: this only checks that everything needed is inside.
    row.results["ran"] = _attempt(
        *(tools / "maturin", "build", "--locked", "--out", made / "wheel"),
        cwd=source,
        env=_environment(tools, CARGO_TARGET_DIR=str(WORK / "target")),
    )
    shutil.copy(archive, out)
    return row


def _print(rows: list[Row]) -> None:
    print(f"\n| file | {' | '.join(CHECKS)} |")
    print(f"| --- |{' --- |' * len(CHECKS)}")
    for row in rows:
        results = " | ".join(row.results.get(check, "-") for check in CHECKS)
        print(f"| {row.name} | {results} |")


if __name__ == "__main__":
    sys.exit(main())

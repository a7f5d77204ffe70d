"""Programs from PyPI, each in its own virtual environment, built once for all test processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from support.tools import missing

_ROOT = Path(__file__).parents[2]
_BUILD = _ROOT / ".build" / "tests" / "python"
_TIMEOUT = 1800
_NOT_SERVED = ("No matching distribution found", "Failed to establish a new connection")
"""What pip prints if a package cannot be downloaded here."""


@dataclass(frozen=True)
class PythonTool:
    """A program from PyPI in an environment in which ``tocsin`` can be imported.

    Attributes:
        package: name and version, as pip names them.
    """

    package: str

    def python(self) -> str:
        """Return the path of the interpreter, or skip the test if the tool is missing."""
        directory = _BUILD / self.package.replace("==", "-")
        directory.parent.mkdir(parents=True, exist_ok=True)
        done = directory / "installed"
        with FileLock(f"{directory}.lock"):
            if not done.exists():
                self._install(directory)
                done.touch()
        return str(directory / "bin" / "python")

    def _install(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(directory)])
        site = directory / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        # tocsin as the tests import it, and what it depends on. The tool's own packages come first.
        (site / "site-packages" / "tests.pth").write_text(
            f"{_ROOT / 'python'}\n{sysconfig.get_path('purelib')}\n"
        )
        python = str(directory / "bin" / "python")
        installed = _run(
            [
                *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
                *("--disable-pip-version-check", "--ignore-installed", self.package),
            ],
            check=False,
        )
        if installed.returncode:
            if any(text in installed.stderr for text in _NOT_SERVED):
                missing(f"{self.package} cannot be downloaded")
            raise AssertionError(installed.stderr)


def _run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (tools of the test machine)
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=check
    )


SCONS = PythonTool("scons==4.11.1")
DOIT = PythonTool("doit==0.37.0")
SNAKEMAKE = PythonTool("snakemake==9.27.1")
INVOKE = PythonTool("invoke==3.0.3")
NOX = PythonTool("nox==2026.10.20")
AIRFLOW = PythonTool("apache-airflow==3.3.2")

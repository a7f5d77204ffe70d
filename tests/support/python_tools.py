"""Programs from PyPI, each in its own virtual environment, built once for all test processes."""

from __future__ import annotations

import os
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
        needs: version of the Python that the tool needs, such as ``3.9``, if the Python of the
            tests is too new; then ``tocsin`` cannot be imported.
    """

    package: str
    needs: str | None = None

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
        python = str(directory / "bin" / "python")
        if self.needs is None:
            _run([sys.executable, "-m", "venv", "--without-pip", str(directory)])
            site = directory / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
            # tocsin as the tests import it, and what it depends on. The tool's packages come first.
            (site / "site-packages" / "tests.pth").write_text(
                f"{_ROOT / 'python'}\n{sysconfig.get_path('purelib')}\n"
            )
            pip = [sys.executable, "-m", "pip", "--python", python]
        else:  # with the pip of that Python, because later ones do not support it
            _run([_interpreter(self.needs), "-m", "venv", str(directory)])
            pip = [python, "-m", "pip"]
        installed = _run(
            [
                *(*pip, "install", "--quiet", "--disable-pip-version-check"),
                *("--ignore-installed", self.package),
            ],
            check=False,
        )
        if installed.returncode:
            if any(text in installed.stderr for text in _NOT_SERVED):
                missing(f"{self.package} cannot be downloaded")
            raise AssertionError(installed.stderr)


def _interpreter(version: str) -> str:
    """Return the path of a Python, or skip the test if the machine does not have this version."""
    program = shutil.which(f"python{version}")
    if program is None:
        missing(f"Python {version} is not installed")
    # pyenv puts a script in PATH that runs the version in PYENV_VERSION.
    done = subprocess.run(  # noqa: S603 (a tool of the test machine)
        [program, "-c", "import sys; print(sys.executable)"],
        env={**os.environ, "PYENV_VERSION": version},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        missing(f"Python {version} cannot be run")
    return done.stdout.strip()


def _run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (tools of the test machine)
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=check
    )


SCONS = PythonTool("scons==4.11.1")
DOIT = PythonTool("doit==0.37.0")
SNAKEMAKE = PythonTool("snakemake==9.27.1")
INVOKE = PythonTool("invoke==3.0.3")
NOX = PythonTool("nox==2026.10.20")
# Later releases are not on PyPI, or need a Python that PyPI has no wheel for.
PANTS = PythonTool("pantsbuild.pants==2.17.1", needs="3.9")
AIRFLOW = PythonTool("apache-airflow==3.3.2")

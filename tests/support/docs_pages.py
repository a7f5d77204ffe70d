"""The code blocks of docs/, and a sandbox directory that runs the commands of a page.

How a block is run depends on its language:

- ``console``: lines that begin with ``$`` are commands. A shell runs them one after another in the
  sandbox. The other lines are the expected output; digests, sizes and times are not compared.
- ``python``: a program that is run in the sandbox. With ``title="NAME"``, it is written to that
  file instead.
- Blocks of the languages in `NOT_RUN` are not run.

A comment before a block says why it is not run, ``<!-- not run here: REASON -->``, or which test
runs it, ``<!-- run by FILE -->``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.cli_in_process import tocsin
from support.cli_process import TIMEOUT, TOCSIN, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
NOT_RUN = {"text", "json"}
"""Languages of blocks that cannot be run."""
REGISTRY = "registry.example.com"
"""The name of the registry on the pages; commands use a test registry instead."""

_BLOCK = re.compile(
    r"(?P<comment><!-- (?:not run here: [^\n]+|run by [^\n]+) -->\n\n?)?"
    r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(
    r"^\$ (?P<command>(?:.*\\\n> )*.*)\n?(?P<output>(?:(?!\$ ).*\n?)*)", re.MULTILINE
)
"""A command and its output; a command continues on lines that begin with ``> ``."""
_COLUMNS = "100"
_SHELL_ONLY = re.compile(r"[|<>&;$`]")
"""Characters that require a shell; other commands are run in this process, which is faster."""
_PROGRESS = re.compile(r"^sha256:[0-9a-f]{12} .*\n", re.MULTILINE)
"""Progress lines, one per layer, which replace the progress bar of a terminal."""
_OF_A_RUN = (
    (re.compile(r"\b[0-9][0-9,.]* ?(?:ms|s|min)\b"), "TIME"),
    (re.compile(r"\b20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]\b"), "DATE"),
    (re.compile(r"^seed .*", re.MULTILINE), "seed"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
)
"""Patterns that match text that differs between runs, with their replacements."""
_OF_A_MACHINE = (
    (re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b"), "DIGEST"),
    (re.compile(r"\b[0-9][0-9,.]* (?:[KMG]i)?B\b"), "SIZE"),
    (re.compile(r"\b[0-9][0-9,.]* %"), "PERCENT"),
)
"""Patterns that match text that depends on the zlib that compresses the layers."""


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        page: name of the page.
        line: line number of its first line.
        language: language of the block.
        title: the file name in its ``title``, or an empty string.
        code: its content.
        comment: the comment before it that says which test runs it, or why it is not run.
    """

    page: str
    line: int
    language: str
    title: str
    code: str
    comment: str


@dataclass
class Shown:
    """A command with its expected and actual output; `source` is the command as on the page."""

    block: Block
    source: str
    command: str
    expected: str
    printed: str = ""
    exit_code: int = 0

    @property
    def differs(self) -> bool:
        """Whether the output differs from the page, where a line ``...`` stands for any lines."""
        pattern = "".join(
            r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n"
            for line in _loosely(self.expected, *_OF_A_RUN, *_OF_A_MACHINE).splitlines()
        )
        printed = _loosely(self.printed, *_OF_A_RUN, *_OF_A_MACHINE)
        return re.fullmatch(pattern, printed) is None

    @property
    def is_outdated(self) -> bool:
        """Whether the page must be updated with the current output."""
        if "..." in self.expected.splitlines():
            return self.differs
        return _loosely(self.expected, *_OF_A_RUN) != _loosely(self.printed, *_OF_A_RUN)


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page, in order."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        language, _, attributes = match["info"].partition(" ")
        title = re.search(r'title="([^"]*)"', attributes)
        indent = re.compile(rf"^{match['indent']}", re.MULTILINE)
        yield Block(
            page.name,
            text.count("\n", 0, match.start("info")) + 1,
            language,
            title[1] if title else "",
            indent.sub("", match["code"]),
            (match["comment"] or "").strip(),
        )


def commands(block: Block) -> Iterator[Shown]:
    """Yield the commands of a console block."""
    for match in _COMMAND.finditer(block.code):
        source = match["command"]
        yield Shown(block, source, source.replace("\\\n> ", ""), match["output"])


def _loosely(text: str, *patterns: tuple[re.Pattern[str], str]) -> str:
    for pattern, name in patterns:
        text = pattern.sub(name, text)
    return text.strip("\n") + "\n"


@dataclass
class Sandbox:
    """A directory in which the commands of one page are run.

    Attributes:
        directory: path of the directory.
        registry: host and port of the registry that replaces `REGISTRY`.
    """

    directory: Path
    registry: str

    def run(self, block: Block) -> list[Shown]:
        """Run a block and return its commands with their output."""
        if block.language == "console":
            shown = list(commands(block))
            for command in shown:
                command.printed, command.exit_code = self._shell(command.command)
            return shown
        program = block.code.replace(REGISTRY, self.registry)
        if block.title:
            (self.directory / block.title).write_text(program)
            return []
        done = self._run([sys.executable, "-c", program])
        return [Shown(block, "", program, "...", done.stdout, done.returncode)]

    def _shell(self, command: str) -> tuple[str, int]:
        command = command.replace(REGISTRY, self.registry)
        if command.startswith("tocsin ") and not _SHELL_ONLY.search(command):
            words, home = shlex.split(command)[1:], str(self.directory)
            done = tocsin(*words, cwd=self.directory, merged=True, HOME=home, COLUMNS=_COLUMNS)
            printed, code = done.stdout.decode(), done.returncode
        else:
            shell = self._run(["/bin/sh", "-c", command])
            printed, code = shell.stdout, shell.returncode
        return _PROGRESS.sub("", printed.replace(self.registry, REGISTRY)), code

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        path = f"{Path(TOCSIN).parent}:/usr/bin:/bin"
        home = str(self.directory)
        return subprocess.run(  # noqa: S603 (commands from our own pages)
            command,
            cwd=self.directory,
            env=environment(PATH=path, HOME=home, COLUMNS=_COLUMNS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


def rewrite(page: Path, shown: list[Shown]) -> None:
    """Update the outdated output on a page."""
    text = page.read_text()
    for command in shown:
        if command.is_outdated:
            before = f"$ {command.source}\n{command.expected}"
            assert text.count(before) == 1, f"{page.name}: {command.source!r} is not unique"
            text = text.replace(before, f"$ {command.source}\n{command.printed}")
    page.write_text(text)

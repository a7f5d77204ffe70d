"""Write the reference of the command line, as Markdown, from the commands themselves.

Run by ``make docs``; docs/cli.md includes what it writes.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin.cli.root import root

if TYPE_CHECKING:
    from collections.abc import Iterator

_JSON_KEYS = re.compile(r"\s*JSON keys:.*", re.DOTALL)
"""Help lists the keys in short; the site has a page that explains them."""
_NOTE = re.compile(r"  \[(.*?)\]")
"""What click, or our own help as click would, adds to the help of an option."""
_DEFAULT = "default: "
_AT_LEAST = re.compile(r"x>=(\d+)")
_WIDTH = 10_000
"""Columns enough for click never to wrap."""


def main(destination: Path) -> None:
    """Write the reference to `destination`."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text("\n".join(reference()))


def reference() -> Iterator[str]:
    """Yield the lines of the reference: each command below the group it is in."""
    for context in _contexts(click.Context(root, info_name="tocsin", **root.context_settings)):
        yield from _section(context)


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None  # noqa: S101 (the group has just listed it)
            yield from _contexts(
                click.Context(command, parent=context, info_name=name, max_content_width=_WIDTH)
            )


def _section(context: click.Context) -> Iterator[str]:
    command = context.command
    path = context.command_path
    yield f"## {path}"
    yield ""
    yield from _fenced([_usage(context)])
    json = False
    for paragraph in (command.help or "").split("\n\n"):
        text = _JSON_KEYS.sub("", paragraph)
        json |= text != paragraph
        yield from _paragraph(text)
    if json:
        yield f"`--json` prints [this document](json.md#{path.replace(' ', '-')})."
        yield ""
    if isinstance(command, click.Group):
        yield from _commands(context, command)
    yield from _options(context)


def _usage(context: click.Context) -> str:
    pieces = context.command.collect_usage_pieces(context)
    return " ".join([context.command_path, *pieces])


def _paragraph(text: str) -> Iterator[str]:
    """Yield a paragraph of help; lines that are indented below a title are a code block."""
    lines = text.removeprefix("\b\n").split("\n")
    title = [line for line in lines if not line.startswith(" ")]
    block = lines[len(title) :]
    if title:
        yield _escaped(" ".join(title))
        yield ""
    if block:
        yield from _fenced(textwrap.dedent("\n".join(block)).split("\n"))


def _fenced(lines: list[str]) -> Iterator[str]:
    yield from ("```text", *lines, "```", "")


def _commands(context: click.Context, group: click.Group) -> Iterator[str]:
    yield from ("| command | what it does |", "| --- | --- |")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # noqa: S101 (the group has just listed it)
        path = f"{context.command_path} {name}"
        summary = _escaped(command.get_short_help_str(_WIDTH))
        yield f"| [`{path}`](#{path.replace(' ', '-')}) | {summary} |"
    yield ""


def _options(context: click.Context) -> Iterator[str]:
    yield from ("| option | meaning | default |", "| --- | --- | --- |")
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record:
            names, meaning = record
            text, default = _meaning(meaning)
            yield f"| {_names(names)} | {_escaped(text)} | {_escaped(default)} |"
    yield ""


def _names(names: str) -> str:
    separate = re.split(r", (?=-)", names)
    return "<br>".join(f"`{name}`" for name in separate)


def _meaning(text: str) -> tuple[str, str]:
    """Return what an option means, and its default."""
    notes = _NOTE.findall(text)
    defaults = [note for note in notes if note.startswith(_DEFAULT)]
    others = [_AT_LEAST.sub(r"At least \1.", note) for note in notes if note not in defaults]
    meaning = " ".join([" ".join(_NOTE.sub("", text).split()), *others])
    return meaning, "".join(default.removeprefix(_DEFAULT) for default in defaults)


def _escaped(text: str) -> str:
    """Return text in which Markdown finds nothing of its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

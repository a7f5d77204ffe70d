"""The reference of the commands has each command and option."""

import re

import click
import pytest

from cli_reference import reference
from tocsin.cli.root import root


def commands(command, path=("tocsin",)):
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


COMMANDS = {" ".join(path): command for path, command in commands(root)}
PAGE = "\n".join(reference())


def test_reference_when_made_then_its_headings_are_the_commands():
    assert re.findall(r"^## (.*)$", PAGE, re.M) == list(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_section_when_made_then_it_has_each_option(path):
    section = PAGE.partition(f"\n## {path}\n")[2] if path != "tocsin" else PAGE
    section = section.partition("\n## ")[0]
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for name in parameter.opts:
                assert re.search(rf"`{re.escape(name)}[ `]", section), name


def test_text_when_it_looks_like_markdown_then_it_is_escaped():
    cells = re.findall(r"^\| `.*?` \| (.*?) \| (.*?) \|$", PAGE, re.M)
    assert cells
    for cell in (cell for row in cells for cell in row):
        assert not re.search(r"(?<!\\)[*_<>\[\]]", cell), cell

"""Man pages and completion files are those of the commands, and installed by wheels."""

import re
import tomllib
from pathlib import Path

import click
import pytest

from share import SHARE, write
from tocsin.cli.root import root

ROOT = Path(__file__).parents[3]


def files_below(directory):
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def command_paths(group, words=("tocsin",)):
    context = click.Context(group)
    yield "-".join(words)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from command_paths(command, (*words, name))
        else:
            yield "-".join((*words, name))


def test_files_when_written_again_then_they_are_those_in_the_repository(tmp_path):
    write(tmp_path / "share")
    assert files_below(SHARE) == files_below(tmp_path / "share"), "run make share"


def test_man_pages_when_listed_then_one_for_each_command():
    pages = {path.stem for path in (SHARE / "man/man1").iterdir()}
    assert pages == set(command_paths(root))


@pytest.mark.parametrize("name", ["tocsin", "tocsin-convert", "tocsin-index-ls"])
def test_man_page_when_read_then_it_has_a_name_and_each_option(name):
    page = (SHARE / "man/man1" / f"{name}.1").read_text()
    assert re.search(rf"^\.SH NAME\n{re.escape(name)} *", page.replace("\\-", "-"), re.M)
    assert ".SH OPTIONS" in page


def test_wheel_when_built_then_maturin_takes_the_files_below_share():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["maturin"]
    assert ROOT / settings["data"] / "data" / "share" == SHARE

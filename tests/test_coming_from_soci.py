"""docs/coming-from-soci.md has every command and flag of the reference, and only options of ours.

``support/soci_commands.json`` is what the reference's ``--help`` prints; it names its version.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from tocsin.cli.root import root

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-soci.md"
REFERENCE = json.loads((Path(__file__).parent / "support" / "soci_commands.json").read_text())
GLOBAL = "Global flags"
FLAGS = {
    GLOBAL: REFERENCE["global_flags"],
    **{f"soci {name}": command["flags"] for name, command in REFERENCE["commands"].items()},
}
UNSAID = {"": {"none", "all", "stdout", "the machine's"}}
"""How the page calls the default of a flag that has none."""


def sections():
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section):
    """Return reference flags, default, ours of each row."""
    table = re.findall(r"^\| (`-.+?) \| (.+?) \| (.+?) \| .+ \|$", section, re.M)
    return [(re.findall(r"`(.+?)`", flags), default, ours) for flags, default, ours in table]


def spellings():
    """Return everything on the page that is to be typed and begins with ``tocsin``."""
    return sorted(set(re.findall(r"`(tocsin .+?)`", PAGE.read_text())))


def test_the_page_names_the_version_of_the_reference():
    assert f"`{REFERENCE['version']}`" in PAGE.read_text()
    assert f"`{REFERENCE['module']}`" in PAGE.read_text()


def test_every_command_of_the_reference_has_a_section():
    assert list(sections()) == [GLOBAL, *(f"soci {name}" for name in REFERENCE["commands"])]
    for name, command in REFERENCE["commands"].items():
        for alias in command["aliases"]:
            assert f"`soci {alias}`" in sections()[f"soci {name}"]


@pytest.mark.parametrize("section", FLAGS)
def test_every_flag_of_the_reference_has_a_row_with_its_default(section):
    found = rows(sections()[section])
    assert [flags for flags, _, _ in found] == [flag["names"] for flag in FLAGS[section]]
    for (flags, default, _), flag in zip(found, FLAGS[section], strict=True):
        told = UNSAID.get(flag["default"], {f"`{flag['default']}`"})
        assert default in told, flags


@pytest.mark.parametrize("section", FLAGS)
def test_every_row_has_a_spelling_of_ours_or_none(section):
    for flags, _, ours in rows(sections()[section]):
        assert ours == "none" or re.fullmatch(r"`tocsin [^`]+`(, `tocsin [^`]+`)*", ours), flags


@pytest.mark.parametrize("spelling", spellings())
def test_every_spelling_of_ours_exists(spelling):
    command, context = root, click.Context(root, **root.context_settings)
    for word in spelling.split()[1:]:
        if word.startswith("-"):
            names = {
                name
                for parameter in command.get_params(context)
                for name in (*parameter.opts, *parameter.secondary_opts)
            }
            assert word in names
        elif isinstance(command, click.Group):
            command = command.get_command(context, word)
            assert command is not None
            context = click.Context(command, parent=context)
        else:  # an argument
            assert word[:1].isupper() or word.startswith("[")
    assert command is root or not isinstance(command, click.Group)


def test_defaults_that_are_the_same_are_the_same():
    """Where the page says so of a number."""
    for name in ("create", "convert"):
        command = root.get_command(click.Context(root), name)
        context = click.Context(command)
        ours = {option: parameter for parameter in command.params for option in parameter.opts}
        for flag in REFERENCE["commands"][name]["flags"]:
            if flag["type"] == "int":
                parameter = ours[flag["names"][0]]
                default = parameter.type_cast_value(context, parameter.default)
                assert default == int(flag["default"])
    create = root.get_command(click.Context(root), "create")
    (existing,) = [p for p in create.params if "--existing-index" in p.opts]
    (theirs,) = [f for f in FLAGS["soci push"] if "--existing-index" in f["names"]]
    assert existing.default == theirs["default"]

"""No command prints a password that was given in a reference, where it does not belong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from support.cli_in_process import tocsin
from tocsin.cli.root import root

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(
    group: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command and its name."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


COMMANDS = dict(commands(root))
LONG = "u:" + "topsecret" * 200
TYPED = [
    "alice:topsecret@host.example/app:1",
    "docker://alice:topsecret@host.example/app:1",
    "https://alice:topsecret@host.example/app:1",
    "oci://alice:topsecret@host.example/app:1",
    "alice:top/secret@host.example/app:1",
    "alice:t\"op\\se'cret@host.example/app:1",
    f"docker://{LONG}@host.example/app:1",
]


def check(*arguments: str) -> None:
    for more in ((), ("--json",), ("--quiet",)):
        done = tocsin(*arguments, *more)
        printed = (done.stdout + done.stderr).decode()
        assert done.returncode != 0
        for part in ("topsecret", "top/secret", "secret@", "cret@", "alice"):
            assert part not in printed, printed


def test_commands_when_listed_then_all_are_known():
    assert {("create",), ("cp",), ("ztoc", "build"), ("index", "rm")} <= set(COMMANDS)


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_when_a_password_is_typed_then_it_is_not_printed(command, typed, tmp_path):
    check(*command, typed)
    check(*command, typed, typed)
    check(*command, f"oci:{tmp_path}/none:1", typed, typed, typed, typed)
    check(*command, f"{typed}:/etc/passwd", str(tmp_path / "out"))


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_option_when_a_password_is_typed_then_it_is_not_printed(command, typed):
    options = [
        option
        for parameter in COMMANDS[command].params
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for option in parameter.opts
        if option.startswith("--")
    ]
    for option in options:
        check(*command, f"{option}={typed}", typed)


@pytest.mark.parametrize("typed", TYPED)
def test_group_when_a_password_is_typed_then_it_is_not_printed(typed):
    check(typed)
    check("index", typed)
    check("ztoc", typed)
    check("--debug", "info", typed)


def test_password_when_typed_then_the_hint_says_how_to_log_in():
    first, second = tocsin("ls", TYPED[0]).stderr.decode().splitlines()
    assert first.endswith("a reference cannot contain a password")
    assert second.startswith("hint: Log in with docker login")


def test_password_when_typed_before_then_the_next_run_prints_its_words():
    check(TYPED[0])
    assert b"alice:topsecret" in tocsin("alice:topsecret").stderr

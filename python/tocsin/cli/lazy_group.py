"""A click group that imports its commands when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyGroup(click.Group):
    """A group of commands, given by the names of their modules.

    Args:
        commands_in: maps the name of each command to its module, in which a variable of that name,
            with underscores, holds the command. The help text lists the commands in this order.
    """

    def __init__(self, *args: Any, commands_in: Mapping[str, str], **attributes: Any) -> None:  # noqa: ANN401 (click's)
        super().__init__(*args, **attributes)
        self._commands_in = commands_in

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the given order."""
        return list(self._commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        module = self._commands_in.get(cmd_name)
        if module is None:
            return None
        command = getattr(import_module(module), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)  # noqa: S101 (our own table)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; for an unknown name, suggest the closest one."""
        name = args[0]
        if not name.startswith("-") and name not in self._commands_in:
            import difflib  # noqa: PLC0415 (rarely needed)

            near = difflib.get_close_matches(name, self._commands_in, n=1, cutoff=0.5)
            question = f"; did you mean {near[0]}?" if near else ""
            ctx.fail(f"no such command {name!r}{question}")
        return super().resolve_command(ctx, args)

"""Commands and groups whose help text is their docstring, with examples kept as written."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from tocsin.cli import exit_codes
from tocsin.cli.lazy_group import LazyGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_AS_WRITTEN = "\b\n"
"""Starts a paragraph that click does not rewrap."""


def command(
    *, summary: str, epilog: str = exit_codes.EPILOG, on_linux_only: bool = False
) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function into a command.

    Args:
        summary: its line in the list of commands.
        epilog: the end of its help: its exit codes.
        on_linux_only: whether it fails on other systems.
    """

    def make(function: Callable[..., Any]) -> click.Command:
        run = _on_linux(function) if on_linux_only else function
        return click.command(epilog=epilog, short_help=summary, help=_help_of(function))(run)

    return make


def group(
    *,
    summary: str = "",
    commands_in: Mapping[str, str],
    context: Mapping[str, object] | None = None,
) -> Callable[[Callable[..., Any]], click.Group]:
    """Turn a function into a group of commands; `commands_in` is passed to `LazyGroup`."""

    def make(function: Callable[..., Any]) -> click.Group:
        return click.group(
            cls=LazyGroup,
            commands_in=commands_in,
            epilog=exit_codes.EPILOG,
            short_help=summary,
            help=_help_of(function),
            context_settings=dict(context or {}),
        )(function)

    return make


def _on_linux(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(**values: Any) -> None:  # noqa: ANN401 (of any command)
        from tocsin.operating_system import require_linux  # noqa: PLC0415 (not for --help)

        require_linux(click.get_current_context().command_path)
        function(**values)

    return run


def _help_of(function: Callable[..., Any]) -> str:
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(_AS_WRITTEN * ("\n " in paragraph) + paragraph for paragraph in paragraphs)

"""Options of the commands that run a program of an image."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tocsin.cli.options import decorated

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.model.run_config import RunConfig

_Command = TypeVar("_Command", bound="Callable[..., None]")


def _variables(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{each!r} is not NAME=VALUE")
        found[name] = value
    return found


_OPTIONS = (
    click.option(
        "--entrypoint", metavar="PROGRAM", help="Program in place of the image's entrypoint."
    ),
    click.option(
        "-e",
        "--env",
        "environment",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_variables,
        help="Environment variable to set; can be repeated.",
    ),
    click.option("-u", "--user", metavar="USER[:GROUP]", help="User in place of the image's."),
    click.option(
        "-w", "--workdir", metavar="DIR", help="Working directory in place of the image's."
    ),
    click.option("--read-only", is_flag=True, help="Make the file system of the image read-only."),
)


def program_options(command: _Command) -> _Command:
    """Add the options of a program, and the arguments after the image, to a command.

    It receives ``config_of``, a function from an image's config to what is run, and ``read_only``.
    """

    @functools.wraps(command)
    def with_options(
        *,
        arguments: tuple[str, ...],
        entrypoint: str | None,
        environment: dict[str, str],
        user: str | None,
        workdir: str | None,
        **others: Any,  # noqa: ANN401 (options of the command)
    ) -> Any:  # noqa: ANN401
        given = arguments[1:] if arguments[:1] == ("--",) else arguments

        def config_of(config: dict[str, Any]) -> RunConfig:
            from tocsin.model.run_config import RunConfig  # noqa: PLC0415 (not for --help)

            return RunConfig.of(
                config,
                given,
                entrypoint=entrypoint,
                environment=environment,
                user=user,
                directory=workdir,
            )

        return command(config_of=config_of, **others)

    arguments = click.argument(
        "arguments", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED
    )
    return cast("_Command", decorated(with_options, (arguments, *_OPTIONS)))

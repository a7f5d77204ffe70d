"""One run of the command line, from arguments to exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tocsin.cli import exit_codes, signals, streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import ClickException

_PROGRAM = "tocsin"
_COMPLETION = "_TOCSIN_COMPLETE"


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return its exit code; nothing is raised but by a second signal."""
    streams.prepare()
    try:
        signals.raise_on_signals()
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        streams.flush()
    except signals.Stopped as stop:
        streams.abandon()
        streams.say("interrupted" if stop.number == _SIGINT else "terminated")
        return exit_codes.SIGNAL + stop.number
    except BrokenPipeError:
        streams.abandon()  # who reads stdout has seen enough
        return exit_codes.OK
    except OSError as error:  # of the last flush
        streams.abandon()
        return _report(error)
    return code


_SIGINT = 2


def _run(arguments: list[str]) -> int:
    import click  # noqa: PLC0415 (so that a signal while it loads is handled)

    from tocsin.cli.root import root  # noqa: PLC0415

    instruction = os.environ.get(_COMPLETION)
    if instruction:
        from click.shell_completion import shell_complete  # noqa: PLC0415

        return shell_complete(root, {}, _PROGRAM, _COMPLETION, instruction)
    try:
        with root.make_context(_PROGRAM, arguments) as context:
            root.invoke(context)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        return _report_usage(error)
    except BrokenPipeError as error:
        if error.filename is None or error.filename == "stdout":
            raise
        return _report(error)
    except Exception as error:
        return _report(error)
    return exit_codes.OK


def _report(error: Exception) -> int:
    from tocsin.cli.failures import explain  # noqa: PLC0415 (not needed when all goes well)

    if os.environ.get("TOCSIN_DEBUG"):
        import traceback  # noqa: PLC0415

        streams.say("".join(traceback.format_exception(error)).rstrip())
    failure = explain(error)
    _say_failure(failure.message, failure.hint)
    return failure.exit_code


def _report_usage(error: ClickException) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # click before 8.2 has it not
        streams.say(error.format_message())
        return exit_codes.USAGE
    command = context.command_path if context is not None else _PROGRAM
    message = error.format_message()
    _say_failure(message[:1].lower() + message[1:].rstrip("."), f"{command} --help")
    return exit_codes.USAGE


def _say_failure(message: str, hint: str) -> None:
    from tocsin.cli.words import printable  # noqa: PLC0415

    streams.say(f"{streams.styled('error:', '1;31', sys.stderr)} {printable(message)}")
    if hint:
        streams.say(f"{streams.styled('hint:', '1;36', sys.stderr)} {printable(hint)}")

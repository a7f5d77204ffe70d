"""Runs the command line, from arguments to exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tocsin.cli import exit_codes, secrets, signals, streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import ClickException

    from tocsin.cli.failures import Failure

_PROGRAM = "tocsin"
_COMPLETION = "_TOCSIN_COMPLETE"


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return its exit code. Only a second signal raises an exception."""
    streams.prepare()
    words = list(sys.argv[1:] if arguments is None else arguments)
    secrets.remember(words)
    json = _wants_json(words)
    try:
        signals.raise_on_signals()
        code = _run(words, json=json)
        streams.flush()
    except signals.Stopped as stop:
        streams.abandon()
        streams.write_message("interrupted" if stop.number == _SIGINT else "terminated")
        return exit_codes.SIGNAL + stop.number
    except BrokenPipeError:
        streams.abandon()  # the reader of stdout has closed it, such as head
        return exit_codes.OK
    except OSError as error:  # from the final flush
        streams.abandon()
        return _report(error, json=False)
    return code


_SIGINT = 2


def _wants_json(arguments: list[str]) -> bool:
    """Return whether ``--json`` is among the options, even if these are invalid."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _run(arguments: list[str], *, json: bool) -> int:
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
        return _report_usage(error, json=json)
    except BrokenPipeError as error:
        if error.filename is None or error.filename == "stdout":
            raise
        return _report(error, json=json)
    except Exception as error:
        return _report(error, json=json)
    return exit_codes.OK


def _report(error: Exception, *, json: bool) -> int:
    from tocsin.cli.failures import explain  # noqa: PLC0415 (not needed on success)

    if os.environ.get("TOCSIN_DEBUG"):
        import traceback  # noqa: PLC0415

        streams.write_message("".join(traceback.format_exception(error)).rstrip())
    return _report_failure(explain(error), json=json)


def _report_usage(error: ClickException, *, json: bool) -> int:
    from tocsin.cli.failures import wrong_usage  # noqa: PLC0415 (as above)

    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # missing in click before 8.2
        streams.write_message(error.format_message())
        return exit_codes.USAGE
    command = context.command_path if context is not None else _PROGRAM
    message = error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    hint = getattr(error, "hint", None)
    return _report_failure(wrong_usage(message, command=command, hint=hint), json=json)


def _report_failure(failure: Failure, *, json: bool) -> int:
    """Write a failure to stderr, with `json` also to stdout, and return its exit code."""
    from tocsin.cli.words import printable  # noqa: PLC0415 (as above)

    prefix = streams.styled("error:", "1;31", sys.stderr)
    streams.write_message(f"{prefix} {printable(failure.message)}")
    if failure.hint is not None:
        prefix = streams.styled("hint:", "1;36", sys.stderr)
        streams.write_message(f"{prefix} {printable(failure.hint)}")
    if json and not streams.has_written():
        from tocsin.cli.output import Output  # noqa: PLC0415 (as above)

        try:
            Output(json=True).document(secrets.hide_in(failure.to_dict()))
            streams.flush()
        except OSError:
            streams.abandon()  # the first failure decides the exit code
    return failure.exit_code

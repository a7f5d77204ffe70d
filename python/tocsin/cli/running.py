"""One run of the command line, from arguments to exit code."""

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
    """Run the command line and return its exit code; nothing is raised but by a second signal."""
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
        streams.say("interrupted" if stop.number == _SIGINT else "terminated")
        return exit_codes.SIGNAL + stop.number
    except BrokenPipeError:
        streams.abandon()  # who reads stdout has seen enough
        return exit_codes.OK
    except OSError as error:  # of the last flush
        streams.abandon()
        return _report(error, json=False)
    return code


_SIGINT = 2


def _wants_json(arguments: list[str]) -> bool:
    """Return whether ``--json`` is among the options, also where no command understands them."""
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
    from tocsin.cli.failures import explain  # noqa: PLC0415 (not needed when all goes well)

    if os.environ.get("TOCSIN_DEBUG"):
        import traceback  # noqa: PLC0415

        streams.say("".join(traceback.format_exception(error)).rstrip())
    return _tell(explain(error), json=json)


def _report_usage(error: ClickException, *, json: bool) -> int:
    from tocsin.cli.failures import wrong_usage  # noqa: PLC0415 (as above)

    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # click before 8.2 has it not
        streams.say(error.format_message())
        return exit_codes.USAGE
    command = context.command_path if context is not None else _PROGRAM
    message = error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    hint = getattr(error, "hint", None)
    return _tell(wrong_usage(message, command=command, hint=hint), json=json)


def _tell(failure: Failure, *, json: bool) -> int:
    """Report a failure to stderr, with `json` to stdout too, and return its exit code."""
    from tocsin.cli.words import printable  # noqa: PLC0415 (as above)

    streams.say(f"{streams.styled('error:', '1;31', sys.stderr)} {printable(failure.message)}")
    if failure.hint is not None:
        streams.say(f"{streams.styled('hint:', '1;36', sys.stderr)} {printable(failure.hint)}")
    if json and not streams.has_written():
        from tocsin.cli.output import Output  # noqa: PLC0415 (as above)

        try:
            Output(json=True).document(secrets.hide_in(failure.to_dict()))
            streams.flush()
        except OSError:
            streams.abandon()  # what has failed first decides the exit code
    return failure.exit_code

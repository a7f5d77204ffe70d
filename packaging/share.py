"""Write the man pages and completion files of the commands, which wheels install below ``share``.

Run by ``make share`` after a change of a command. The files are in the repository, since the build
of a wheel has no step in which they could be made; a test checks that they are current.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
from click.shell_completion import get_completion_class
from click_man.core import write_man_pages

from tocsin import __version__
from tocsin.cli.root import root

SHARE = Path(__file__).parent / "data" / "data" / "share"
"""What maturin puts into wheels; see ``data`` in pyproject.toml."""
_COMPLETIONS = {
    "bash": "bash-completion/completions/tocsin",
    "zsh": "zsh/site-functions/_tocsin",
    "fish": "fish/vendor_completions.d/tocsin.fish",
}
"""Where each shell looks for completion files, below ``share``."""
_NO_DATE = " "
"""Pages change with the version only; click-man would take today's date."""


def write(share: Path) -> None:
    """Write all files below `share`, and remove what an earlier run left there."""
    shutil.rmtree(share, ignore_errors=True)
    pages = share / "man" / "man1"
    pages.mkdir(parents=True)
    write_man_pages("tocsin", _loaded(root), version=__version__, target_dir=pages, date=_NO_DATE)
    for shell, name in _COMPLETIONS.items():
        kind = get_completion_class(shell)
        assert kind is not None, f"click does not know {shell}"
        path = share / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{_source(kind)}\n")


def _source(kind: type[click.shell_completion.ShellComplete]) -> str:
    # Not `source()`, which for bash runs bash to find its version.
    complete = kind(root, {}, "tocsin", "_TOCSIN_COMPLETE")
    return (complete.source_template % complete.source_vars()).strip()


def _loaded(command: click.Command) -> click.Command:
    """Return a command whose subcommands are loaded, as click-man expects."""
    if not isinstance(command, click.Group):
        return command
    context = click.Context(command)
    commands = {name: command.get_command(context, name) for name in command.list_commands(context)}
    text = command.help or ""
    return click.Group(
        name=command.name,
        help=text,
        short_help=command.short_help or text.partition("\n")[0],
        epilog=command.epilog,
        params=command.params,
        context_settings=command.context_settings,
        commands={name: _loaded(each) for name, each in commands.items() if each is not None},
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARE)

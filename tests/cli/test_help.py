from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version

import click
import pytest

from support.cli_in_process import tocsin
from support.cli_process import python
from support.cli_process import tocsin as tocsin_process
from tocsin.cli.root import root
from tocsin.layers.indexer import CORE_VERSION

COMMANDS = [
    ("create",),
    ("convert",),
    ("copy",),
    ("info",),
    ("verify",),
    ("ztoc", "build"),
    ("ztoc", "info"),
    ("ztoc", "ls"),
    ("ztoc", "cat"),
    ("ztoc", "extract"),
    ("index", "ls"),
    ("index", "info"),
    ("index", "rm"),
    ("fetch",),
    ("doctor",),
    ("am-i-lazy",),
    ("cache", "ls"),
    ("cache", "prune"),
]


def test_help_names_every_command_and_exit_code():
    """Runs the installed program."""
    done = tocsin_process("--help")
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    for name in (
        "create",
        "convert",
        "info",
        "verify",
        "ztoc",
        "index",
        "copy",
        "oci-archive:FILE",
        "HOST/REPO:TAG",
    ):
        assert name in text
    for code in (0, 1, 2, 3, 4, 5, 6, 130):
        assert f"\n    {code} " in text


@pytest.mark.parametrize(
    "command", [(), ("ztoc",), ("index",), ("cache",), *COMMANDS], ids=" ".join
)
def test_help_of_each_command_fits_80_columns_and_has_no_colour(command):
    done = tocsin(*command, "-h", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Exit codes:" in done.stdout
    assert b"\x1b" not in done.stdout
    assert max(map(len, done.stdout.decode().splitlines())) <= 80


def test_reference_spellings_of_options_are_in_the_help():
    text = tocsin("create", "--help").stdout.decode()
    for option in ("--optimizations", "--prefetch-file", "--prefetch-files-json"):
        assert option in text


@pytest.mark.parametrize(
    "command",
    [("create",), ("convert",), ("verify",), ("ztoc", "build"), ("cat",), ("ls",), ("cp",)],
    ids=" ".join,
)
def test_help_of_commands_with_threads_explains_them(command):
    text = " ".join(tocsin(*command, "--help", COLUMNS="80").stdout.decode().split())
    assert "--threads COUNT" in text
    assert "TOCSIN_THREADS" in text
    assert "[default: all CPUs]" in text


def test_without_a_command_help_goes_to_stderr_and_the_code_is_usage():
    """Runs a separate process, to check its exit code."""
    done = tocsin_process()
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Commands:" in done.stderr


def test_version():
    """Runs the installed program."""
    done = tocsin_process("--version")
    assert done.stdout.decode().splitlines() == [
        f"tocsin {version('tocsin')}",
        f"core {CORE_VERSION}",
        f"Python {platform.python_version()} ({platform.python_implementation()})",
        f"platform {platform.platform()}",
    ]
    assert done.returncode == 0


def test_version_when_the_core_cannot_be_loaded_then_the_rest_is_shown(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tocsin.layers.indexer", None)
    with pytest.raises(click.exceptions.Exit):
        root.make_context("tocsin", ["--version"])
    first, core, *_ = capsys.readouterr().out.splitlines()
    assert first == f"tocsin {version('tocsin')}"
    assert core.startswith("core cannot be loaded: import of tocsin.layers.indexer halted")


def test_module_run_is_the_same_command():
    """In processes: the two ways to start one."""
    done = python("-m", "tocsin", "--help")
    assert done.stdout == tocsin_process("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("creat", "x"), "error: no such command 'creat'; did you mean create?\n"),
        (("ztoc", "sl"), "error: no such command 'sl'; did you mean ls?\n"),
        (("nothing-like-it",), "error: no such command 'nothing-like-it'\n"),
        (("create",), "error: missing argument 'SOURCE'\n"),
        (("create", "oci:x", "--span-size", "4 apples"), "error: invalid value for '--span-size'"),
        (("create", "oci:x", "--jobs", "0"), "error: invalid value for '-j' / '--jobs'"),
        (("create", "oci:x", "--threads", "0"), "error: invalid value for '--threads'"),
        (("verify", "oci:x", "--threads", "x"), "error: invalid value for '--threads'"),
        (("create", "oci:x", "--platform", "linux"), "error: invalid value for '-p'"),
        (("create", "oci:x", "--optimize", "speed"), "error: invalid value for '--optimize'"),
        (("create", "oci:"), "error: invalid value for 'SOURCE'"),
        (
            ("create", "r.example/x", "--username", "a"),
            "error: --username and --password-stdin ",
        ),
        (("info", "r.example/x", "--client-cert", "nope"), "error: invalid value for '--client-c"),
        (("--no-such-option",), "error: no such option '--no-such-option'"),
        (
            ("ztoc", "build", "x", "--json", "-o", "-"),
            "error: --json and -o - both write to stdout\n",
        ),
    ],
)
def test_wrong_usage_prints_an_error_a_hint_and_code_2(arguments, message):
    done = tocsin(*arguments)
    first, second = done.stderr.decode().splitlines()
    assert f"{first}\n".startswith(message)
    assert second.startswith("hint: Show the usage with tocsin ")
    assert second.endswith(" --help.")
    assert done.returncode == 2
    if "--json" in arguments:
        failure = json.loads(done.stdout)["error"]
        assert (failure["code"], failure["exit_code"]) == ("usage", 2)
        assert f"error: {failure['message']}\nhint: {failure['hint']}\n" == done.stderr.decode()
    else:
        assert done.stdout == b""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_given(shell):
    if shell == "bash" and not os.access("/bin/bash", os.X_OK):
        pytest.skip("needs bash")
    done = tocsin(_TOCSIN_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert b"_TOCSIN_COMPLETE" in done.stdout


def test_completion_knows_commands():
    done = tocsin(_TOCSIN_COMPLETE="bash_complete", COMP_WORDS="tocsin co", COMP_CWORD="1")
    assert done.stdout.decode().split() == ["plain,convert", "plain,copy"]


@pytest.mark.parametrize("command", ["create", "cp", "find"])
def test_help_imports_nothing_heavy(command):
    """Runs a separate process, to list its imports."""
    done = python("-X", "importtime", "-m", "tocsin", command, "--help")
    imported = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
    assert b"click" in imported
    assert not imported & {
        b"numpy",
        b"rich",
        b"requests",
        b"tocsin._core",
        b"tocsin.model.manifest",
    }

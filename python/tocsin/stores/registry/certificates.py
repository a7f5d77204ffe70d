"""Local certificates for a registry in ``certs.d``, as in skopeo and Docker.

The directory of a registry is named after its host and port. It contains certificate authorities in
``*.crt``, and client certificates in ``*.cert`` and ``*.key``. The directory is read from the
first of these places where it exists:

1. ``$XDG_CONFIG_HOME/containers/certs.d``
2. ``~/.config/containers/certs.d``
3. ``/etc/containers/certs.d``
4. ``/etc/docker/certs.d``

If there are several client certificates, the first by name is used.

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
    """The certificates for one registry.

    Attributes:
        authorities: PEM files of trusted certificate authorities.
        client: PEM files of the client certificate and its key, which may be the same file.
    """

    authorities: tuple[Path, ...] = ()
    client: tuple[Path, Path] | None = None


def find_certificates(host: str, environ: Mapping[str, str] | None = None) -> Certificates:
    """Return the certificates for `host` in ``certs.d``.

    Args:
        host: host as in references, with the port.
        environ: environment variables; by default, those of this process.

    Raises:
        RegistryError: a certificate has no key, a key has no certificate, or a pair is invalid.
        OSError: a file cannot be read.
    """
    for root in _directories(os.environ if environ is None else environ):
        try:
            names = _names(root / host)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        _refuse_unpaired(root / host, names)
        return _certificates(root / host, names)
    return Certificates()


def certificates_in(directory: Path) -> Certificates:
    """Return the certificates in the directory of one registry, as containerd reads it.

    A certificate without a key file must contain its key.

    Raises:
        RegistryError: a certificate and its key do not match.
        OSError: a file cannot be read.
    """
    return _certificates(directory, _names(directory))


def check_client(certificate: Path, key: Path) -> None:
    """Check that a client certificate and its key can be used.

    Raises:
        RegistryError: a file is invalid, the two do not match, or the key has a password.
        OSError: a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # The empty password keeps OpenSSL from prompting on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        with_key = "its key" if certificate == key else f"the key {key}"
        raise RegistryError(
            f"{certificate}: not a PEM certificate with {with_key} (without a password)"
        ) from None


def holds_authority(file: Path) -> bool:
    """Return whether a file contains a PEM certificate.

    Raises:
        OSError: the file cannot be read.
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


def _refuse_unpaired(directory: Path, names: list[str]) -> None:
    for name in names:
        suffix = Path(name).suffix
        other = {_CERTIFICATE: _KEY, _KEY: _CERTIFICATE}.get(suffix, suffix)
        if name.removesuffix(suffix) + other not in names:
            raise RegistryError(
                f"{directory / name}: {name.removesuffix(suffix)}{other} is missing",
                hint="Name authorities *.crt, client certificates *.cert and their keys *.key.",
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
    except FileNotFoundError:  # a broken symbolic link
        found = False
    if not found:
        LOG.warning("%s: ignored, since it contains no PEM certificate", file)
    return found

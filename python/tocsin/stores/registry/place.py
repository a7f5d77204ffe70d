"""`Place`: where the server of a registry is, and with which certificates it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin.stores.http.origin import Origin
    from tocsin.stores.registry.certificates import Certificates


@dataclass(frozen=True, slots=True)
class Place:
    """The server of a host.

    Attributes:
        name: host, with the port, as used for messages, credentials and ``certs.d``.
        origin: origin of the server.
        certificates: certificates for the host in ``certs.d``.
    """

    name: str
    origin: Origin
    certificates: Certificates

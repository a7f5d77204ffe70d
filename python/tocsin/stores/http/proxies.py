"""Proxies from environment variables.

The ``requests`` library reads the variables. This module adds what Go's clients support and
``requests`` does not: IPv6 addresses in ``NO_PROXY``, with or without brackets and port, and IPv6
networks.

Source: golang/net, http/httpproxy/proxy.go.
"""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from requests.utils import get_environ_proxies, select_proxy

from tocsin.stores.http.origin import Origin

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address


def proxy_of(url: str) -> str | None:
    """Return the URL, with a scheme, of the proxy for requests to `url`; ``None`` for no proxy."""
    if goes_direct(Origin.of(url)):
        return None
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def goes_direct(origin: Origin) -> bool:
    """Return whether a rule that ``requests`` does not know excludes `origin` from proxying."""
    if origin.is_loopback:
        return True
    excluded = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    if not excluded or ":" not in origin.host:
        return False
    address = ip_address(origin.host)
    return any(_covers(entry.strip(), address, origin.port) for entry in excluded.split(","))


def _covers(entry: str, address: IPv4Address | IPv6Address, port: int) -> bool:
    """Return whether an entry of ``NO_PROXY`` covers an address."""
    if entry.startswith("["):
        entry, _, suffix = entry[1:].partition("]")
        if suffix not in ("", f":{port}"):
            return False
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False

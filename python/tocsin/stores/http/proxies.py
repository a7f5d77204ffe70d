"""Which proxy the environment names for a URL.

requests reads the variables; what it does not know is added here, as Go's clients have it: an IPv6
address in ``NO_PROXY``, with brackets or without, with a port or without, or a network of them.

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
    """Return the URL of the proxy that requests to `url` go through, with its scheme."""
    if goes_direct(Origin.of(url)):
        return None
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def goes_direct(origin: Origin) -> bool:
    """Return whether `origin` is reached without a proxy, where requests would not know."""
    if origin.is_loopback:
        return True
    excluded = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    if not excluded or ":" not in origin.host:
        return False
    address = ip_address(origin.host)
    return any(_covers(entry.strip(), address, origin.port) for entry in excluded.split(","))


def _covers(entry: str, address: IPv4Address | IPv6Address, port: int) -> bool:
    """Return whether an entry of ``NO_PROXY`` means an address."""
    if entry.startswith("["):
        entry, _, wanted = entry[1:].partition("]")
        if wanted not in ("", f":{port}"):
            return False
    try:
        return address in ip_network(entry, strict=False)
    except ValueError:
        return False

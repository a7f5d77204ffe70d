"""The catalogue of a registry: the names of its repositories.

Source: distribution/distribution, docs/content/spec/api.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError
from tocsin.model.go_json import MAX_SIZE
from tocsin.stores.http.status import NOT_FOUND, OK
from tocsin.stores.registry.names import Names
from tocsin.stores.registry.pages import pages
from tocsin.stores.registry.scopes import Scopes

if TYPE_CHECKING:
    from tocsin.stores.http.answer import Answer
    from tocsin.stores.registry.endpoint import Endpoint

CATALOG = "_catalog"
MAX_REPOSITORIES = 1_000_000
_PAGE_SIZE = 1000
_SCOPE = Scopes(frozenset({("registry", "catalog", "*")}))
_METHOD_NOT_ALLOWED = 405
_MISSING = {NOT_FOUND, _METHOD_NOT_ALLOWED}
_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,254}")


def read_catalog(endpoint: Endpoint) -> list[str]:
    """Return the names of all repositories, sorted.

    Args:
        endpoint: API of the registry; its repository is not used.

    Raises:
        UnsupportedError: the registry has no catalogue.
        RegistryError: the registry rejected the request.
        FormatError: the response is invalid, or there are more than `MAX_REPOSITORIES`; `what` is
            ``catalog`` or ``pages``.
    """

    def ask(url: str) -> tuple[Answer, bytes]:
        expect = {OK} | _MISSING
        answer = endpoint.send(
            "GET", url, doing="list repositories", expect=expect, actions=(), also=_SCOPE
        )
        return answer, answer.read(MAX_SIZE, what="catalog")

    found = Names(endpoint.name, "catalog", "repositories", "repository", _NAME, MAX_REPOSITORIES)
    first = f"{endpoint.origin}{endpoint.root}/{CATALOG}?n={_PAGE_SIZE}"
    for answer, data in pages(first, ask):
        if answer.status in _MISSING:
            raise UnsupportedError(
                f"{endpoint.name}: the registry does not list its repositories",
                hint="Name the repositories, or list the images in a file.",
            )
        found.add(data)
    return found.sorted()

"""Lists that come in pages, joined by ``Link: <…>; rel="next"``.

Source: OCI distribution-spec 1.1, "Listing Tags"; RFC 8288, 3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, RegistryError
from tocsin.stores.http.origin import Origin
from tocsin.stores.http.redaction import redact_url
from tocsin.stores.http.redirects import join_location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.stores.http.answer import Answer

MAX_PAGES = 1_000
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*?\brel\s*=\s*"?next\b', re.IGNORECASE)


def pages(first: str, ask: Callable[[str], tuple[Answer, bytes]]) -> Iterator[tuple[Answer, bytes]]:
    """Yield each answer, and its body, from the URL `first` on.

    Args:
        first: URL of the first page.
        ask: gets a page whole.

    Raises:
        RegistryError: the next page is at another origin.
        FormatError: a page comes twice, or there are more than `MAX_PAGES`; `what` is ``pages``.
    """
    url = first
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) == MAX_PAGES:
            raise FormatError(
                f"{redact_url(first)}: page {len(seen) + 1} "
                f"{'was there before' if url in seen else 'is one too many'}",
                what="pages",
            )
        seen.add(url)
        answer, body = ask(url)
        following = _NEXT.search(answer.header("Link"))
        next_url = join_location(url, following[1]) if following else ""
        if next_url and Origin.of(next_url) != Origin.of(first):
            raise RegistryError(
                f"{redact_url(first)}: the next page is elsewhere, at {redact_url(next_url)}",
                url=redact_url(first),
            )
        yield answer, body
        url = next_url

"""Lists that are split into pages, each linked to the next by ``Link: <…>; rel="next"``.

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
    """Yield the response and body of each page.

    Args:
        first: URL of the first page.
        ask: requests a page and returns its response and body.

    Raises:
        RegistryError: the next page has a different origin.
        FormatError: a page is repeated, or there are more than `MAX_PAGES`; `what` is ``pages``.
    """
    url = first
    seen: set[str] = set()
    while url:
        if url in seen or len(seen) == MAX_PAGES:
            problem = (
                f"page {len(seen) + 1} repeats an earlier page"
                if url in seen
                else f"too many pages (expected at most {MAX_PAGES})"
            )
            raise FormatError(f"{redact_url(first)}: {problem}", what="pages")
        seen.add(url)
        answer, body = ask(url)
        following = _NEXT.search(answer.header("Link"))
        next_url = join_location(url, following[1]) if following else ""
        if next_url and Origin.of(next_url) != Origin.of(first):
            raise RegistryError(
                f"{redact_url(first)}: the next page is on another host: {redact_url(next_url)}",
                url=redact_url(first),
            )
        yield answer, body
        url = next_url

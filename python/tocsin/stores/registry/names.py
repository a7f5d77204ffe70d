"""Lists of names in a registry: the tags of a repository, and the repositories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tocsin.errors import FormatError
from tocsin.model.go_json import decode_object
from tocsin.quoting import quoted

if TYPE_CHECKING:
    import re


@dataclass(slots=True)
class Names:
    """Collects the names on the pages of a list.

    Args:
        place: name of the repository or registry, for messages.
        what: the `what` of errors.
        key: key of the list in each page.
        one: what one name is.
        pattern: what a name looks like.
        limit: maximum number of names.
    """

    place: str
    what: str
    key: str
    one: str
    pattern: re.Pattern[str]
    limit: int
    _found: set[str] = field(default_factory=set)

    def add(self, page: bytes) -> None:
        """Add the names on a page.

        Raises:
            FormatError: the page is invalid, or there are too many names.
        """
        names = decode_object(page, what=self.what).get(self.key) or []
        if not isinstance(names, list):
            raise FormatError(f"{self.place}: {self.key}: expected a list", what=self.what)
        for name in names:
            if not isinstance(name, str) or not self.pattern.fullmatch(name):
                shown = quoted(str(name), limit=80)
                raise FormatError(
                    f"{self.place}: {self.key}: invalid {self.one} {shown}", what=self.what
                )
        self._found.update(names)
        if len(self._found) > self.limit:
            raise FormatError(f"{self.place}: more than {self.limit} {self.key}", what=self.what)

    def sorted(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._found)

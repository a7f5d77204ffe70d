"""Scopes of tokens: the permissions that a client requests.

A scope is written ``type:name:action,action``, such as ``repository:samalba/my-app:pull,push``.

Source: distribution/distribution, docs/content/spec/auth/scope.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_MAX_SCOPES = 16
_ORDER = ("pull", "push", "delete", "*")


@dataclass(frozen=True, slots=True)
class Scopes:
    """A set of permissions.

    Attributes:
        entries: set of (type, name, action).
    """

    entries: frozenset[tuple[str, str, str]] = frozenset()

    @classmethod
    def repository(cls, name: str, *actions: str) -> Self:
        """Return the permissions for `actions` in the repository `name`."""
        return cls(frozenset(("repository", name, action) for action in actions))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse scopes that are separated by spaces; invalid ones are ignored."""
        entries = set()
        for scope in text.split()[:_MAX_SCOPES]:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")  # a name may contain a port
            if kind and name:
                entries |= {(kind, name, action) for action in actions.split(",") if action}
        return cls(frozenset(entries))

    def __or__(self, other: Scopes) -> Scopes:
        return Scopes(self.entries | other.entries)

    def covers(self, other: Scopes) -> bool:
        """Return whether these scopes include all of `other`."""
        return self.entries >= other.entries

    def texts(self) -> list[str]:
        """Return one text per type and name, sorted, with the actions in conventional order."""
        names = sorted({(kind, name) for kind, name, _ in self.entries})
        return [f"{kind}:{name}:{','.join(self._actions(kind, name))}" for kind, name in names]

    def _actions(self, kind: str, name: str) -> list[str]:
        actions = {action for k, n, action in self.entries if (k, n) == (kind, name)}
        return sorted(actions, key=lambda a: (_ORDER.index(a) if a in _ORDER else len(_ORDER), a))

    def __str__(self) -> str:
        return " ".join(self.texts())

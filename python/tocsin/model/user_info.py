"""User names and passwords that were typed into a reference or URL; no message may show them."""

from __future__ import annotations

import re

HIDDEN = "***"
_OF_THIS_MACHINE = re.compile(r"(?:oci|oci-archive|docker-archive):(?![a-z]*:?//)")
"""References to files, whose paths may hold an ``@``; but ``oci://HOST/REPO`` is a mistake."""
_WEB = re.compile(r"https?://", re.IGNORECASE)
_NOT_OF_DIGEST = re.compile(r"@(?!sha[0-9]+[:+])")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
"""A host name or address, with a port if any."""


def without_user_info(text: str) -> str:
    """Return a reference or URL with ``***`` in place of its user name and password."""
    secret = user_info(text)
    return text if secret is None else text.replace(f"{secret}@", f"{HIDDEN}@", 1)


def user_info(text: str) -> str | None:
    """Return what may be a user name and password in `text`; ``None`` if nothing may be.

    Args:
        text: a reference in any form, right or wrong, such as ``USER:PASSWORD@HOST/REPO`` or
            ``docker://USER:PASSWORD@HOST/REPO``, or a URL. A password may hold ``/``, ``@`` and
            ``:`` too.
    """
    if _OF_THIS_MACHINE.match(text):
        return None
    before, slashes, after = text.partition("//")
    if not slashes:
        before, after = "", text.removeprefix("docker:")
    ats = [found.start() for found in _NOT_OF_DIGEST.finditer(after)]
    if not ats:
        return None
    secret, rest = after[: ats[-1]], after[ats[-1] + 1 :]
    if _WEB.fullmatch(before + slashes):
        # Paths of URLs may hold an @, so there must be something that only a password explains.
        authority = re.split("[/?#]", after, maxsplit=1)[0]
        return secret if "@" in authority or not _HOST.fullmatch(authority) else None
    # A repository and a misspelt digest have no colon, and a slash unless both are plain words.
    is_plain = ":" not in secret and ("/" in secret or not re.search("[./:]", rest))
    return None if is_plain else secret

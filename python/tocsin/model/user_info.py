"""User names and passwords typed into references and URLs, which messages must not show."""

from __future__ import annotations

import re

HIDDEN = "***"
_LOCAL_TRANSPORT = re.compile(r"(?:oci|oci-archive|docker-archive):(?![a-z]*:?//)")
"""Local references, whose paths may contain ``@``. ``oci://HOST/REPO`` is a typo and not local."""
_HTTP_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_AT_BEFORE_NON_DIGEST = re.compile(r"@(?!sha[0-9]+[:+])")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
"""A host name or address with an optional port."""


def without_user_info(text: str) -> str:
    """Replace the user name and password in a reference or URL with ``***``."""
    secret = user_info(text)
    return text if secret is None else text.replace(f"{secret}@", f"{HIDDEN}@", 1)


def user_info(text: str) -> str | None:
    """Return the part of `text` that may be a user name and password, or ``None``.

    Args:
        text: a URL or a reference, valid or not, such as ``USER:PASSWORD@HOST/REPO`` or
            ``docker://USER:PASSWORD@HOST/REPO``. A password may contain ``/``, ``@`` and ``:``.
    """
    if _LOCAL_TRANSPORT.match(text):
        return None
    before, slashes, after = text.partition("//")
    if not slashes:
        before, after = "", text.removeprefix("docker:")
    ats = [found.start() for found in _AT_BEFORE_NON_DIGEST.finditer(after)]
    if not ats:
        return None
    secret, rest = after[: ats[-1]], after[ats[-1] + 1 :]
    if _HTTP_SCHEME.fullmatch(before + slashes):
        # The path of a URL may contain @, so the authority decides whether this is a password.
        authority = re.split("[/?#]", after, maxsplit=1)[0]
        return secret if "@" in authority or not _HOST.fullmatch(authority) else None
    # Not a password but a repository and a misspelled digest: no colon before the @, and a slash
    # there unless both sides are plain words.
    is_plain = ":" not in secret and ("/" in secret or not re.search("[./:]", rest))
    return None if is_plain else secret

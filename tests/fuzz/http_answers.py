"""Hostile answers of registries and web servers: only errors of tocsin come out, within bounds.

::

    python tests/fuzz/http_answers.py CORPUS -max_total_time=60

The fuzzer's bytes are instructions for a conversation, see ``tests/support/hostile_http.py``. A
finding is any exception but a ``TocsinError``, a message that cannot be shown, a secret in one,
more requests than a client should send, a conversation of more than 10 seconds or 1 GiB.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["tocsin"]):
    from support.hostile_http import Conversation

_LIMITS = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=512", "-len_control=0"]


def one(data: bytes) -> None:
    """Hold one conversation."""
    Conversation(data)


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *_LIMITS, *sys.argv[1:]], one)
    atheris.Fuzz()

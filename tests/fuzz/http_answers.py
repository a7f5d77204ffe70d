"""Hostile responses of registries and web servers: only TocsinError is raised, within bounds.

::

    python tests/fuzz/http_answers.py CORPUS -max_total_time=60

The fuzzer's bytes are instructions for a conversation; see ``tests/support/hostile_http.py``.
Findings are exceptions other than ``TocsinError``, messages with control characters or secrets, too
many requests, and conversations that take more than 10 seconds or 1 GiB.
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
    """Run one conversation."""
    Conversation(data)


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *_LIMITS, *sys.argv[1:]], one)
    atheris.Fuzz()

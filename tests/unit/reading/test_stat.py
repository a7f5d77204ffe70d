"""Of `tocsin.reading.stat`."""

from __future__ import annotations

import pytest

from tocsin.reading.stat import mtime_ns


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * 10**9),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000 * 10**9 + 500_000_000),
        ("2023-11-14T22:13:20.000000001Z", 1_700_000_000 * 10**9 + 1),
        # The reference writes times in the zone of its machine.
        ("2023-11-14T17:13:20-05:00", 1_700_000_000 * 10**9),
        ("2023-11-15T03:43:20.25+05:30", 1_700_000_000 * 10**9 + 250_000_000),
        ("1969-12-31T23:59:59.75Z", -250_000_000),
        ("0000-01-01T00:00:00Z", 0),
        ("nonsense", 0),
    ],
)
def test_mtime_ns_when_text_is_rfc_3339_then_nanoseconds(text, nanoseconds):
    assert mtime_ns(text) == nanoseconds

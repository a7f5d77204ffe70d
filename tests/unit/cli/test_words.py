from __future__ import annotations

import pytest

from tocsin.cli import words


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (85_143_142, "81.2 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 60, "3.0 EiB"),
        (5000 << 60, "5,000.0 EiB"),
    ],
)
def test_size(byte_count, text):
    assert words.size(byte_count) == text


def test_round_size_drops_the_zero_only_where_it_is_exact():
    assert words.round_size(4 << 20) == "4 MiB"
    assert words.round_size((4 << 20) + 1) == "4.0 MiB"
    assert words.round_size(1000) == "1000 B"


def test_count_takes_the_right_plural():
    assert words.count(1, "span") == "1 span"
    assert words.count(0, "span") == "0 spans"
    assert words.count(12_345, "directory", "directories") == "12,345 directories"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0801, "80 ms"),
        (0.9999, "1.0 s"),
        (1.24, "1.2 s"),
        (59.99, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3_725, "1 h 02 min"),
    ],
)
def test_duration(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (9_999_999, 10_000_000, "99.9 %"),
        (1, 10_000_000, "<0.1 %"),
        (3, 200, "1.5 %"),
        (0, 0, words.NOTHING),
        (30, 10, "300.0 %"),
    ],
)
def test_percent_never_claims_all_or_nothing_falsely(part, whole, text):
    assert words.percent(part, whole) == text


def test_short_digests():
    digest = "sha256:" + "0123456789abcdef" * 4
    assert words.short(digest) == "0123456789ab"
    assert words.short_digest(digest) == "sha256:0123456789ab"


def test_printable_escapes_what_a_terminal_would_obey():
    assert words.printable("a\x1b[2J\n\x7f\u202e") == "a\\x1b[2J\\n\\x7f\\u202e"
    assert words.printable("caf\udce9 ü \\") == "caf\udce9 ü \\"
    assert words.escaped("a\\n\n") == "a\\\\n\\n"

"""Differences between zTOCs that `verify` itself never compares."""

from __future__ import annotations

import random

import pytest

from support.images import make_image
from support.tampered import with_span_digest
from tocsin.layers.indexer import build_ztoc
from tocsin.layers.ztoc import Ztoc
from tocsin.verifying.difference import differences
from tocsin.verifying.findings import Severity

LAYER = make_image({"a": random.Random(1).randbytes(200_000)}).layers[0]  # noqa: S311 (noise)
MADE = build_ztoc(LAYER, span_size=1 << 16)


def span_bytes(start, end):
    return [LAYER[start:end]]


def nothing(start, end):
    pytest.fail("the layer must not be read")


def test_ztocs_when_equal_then_no_differences_and_no_reads():
    assert differences(MADE.to_bytes(), MADE, MADE, nothing) == []


def test_checkpoints_when_omitted_then_note_and_larger_spans_are_hashed():
    stored = build_ztoc(LAYER, span_size=1 << 30)
    assert stored.span_count == 1 < MADE.span_count
    (found,) = differences(stored.to_bytes(), stored, MADE, span_bytes)
    assert (found.kind, found.severity) == ("ztoc.checkpoints", Severity.NOTE)
    assert f"has 1 of the {MADE.span_count} checkpoints" in found.message


def test_digest_when_larger_span_is_wrong_then_error():
    blob = with_span_digest(build_ztoc(LAYER, span_size=1 << 30).to_bytes(), 0)
    _, found = differences(blob, Ztoc.from_bytes(blob), MADE, span_bytes)
    assert (found.kind, found.severity) == ("ztoc.span", Severity.ERROR)


def test_entries_when_one_is_missing_then_counts_are_reported():
    other = build_ztoc(make_image({"a": b"", "b": b""}).layers[0])
    stored = build_ztoc(make_image({"a": b""}).layers[0])
    found = differences(stored.to_bytes(), stored, other, span_bytes)
    (message,) = (finding.message for finding in found if finding.kind == "ztoc.file")
    assert "entry 1: b is in the layer but not in the zTOC" in message
    assert message.endswith("; number of entries is 1 in the zTOC, 2 in the layer")

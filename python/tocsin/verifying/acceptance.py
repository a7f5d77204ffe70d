"""Findings for the acceptance rules of soci-snapshotter that a zTOC breaks.

Source: docs/format.md#acceptance-rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tocsin.model.finding import Finding
from tocsin.quoting import shown
from tocsin.verifying.findings import warning

if TYPE_CHECKING:
    from tocsin.layers.ztoc import Ztoc
    from tocsin.model.refusal import Refusal

_MAX_REFUSALS_SHOWN = 3


def early_spans(ztoc: Ztoc) -> range:
    """Return the ids of the empty spans at the start of the layer."""
    if ztoc.compression_algorithm != "gzip":
        return range(0)
    starts = ztoc.spans["uncompressed_start"]
    return range(max(int((starts == 0).sum()) - 1, 0))


def refusals(ztoc: Ztoc) -> list[Finding]:
    """Return a finding for each acceptance rule of soci-snapshotter that a zTOC breaks.

    Empty spans at the start, which the reference itself writes, are only a warning:
    soci-snapshotter then unpacks the layer as if it had no zTOC. All other violations are errors,
    because reads fail or return wrong data.
    """
    early = early_spans(ztoc)
    from_reference: list[Refusal] = []
    others: list[Refusal] = []
    for refusal in ztoc.reader_refusals():
        is_early = refusal.code == "empty-span" and refusal.span_id in early
        (from_reference if is_early else others).append(refusal)
    findings = []
    if from_reference:
        findings.append(
            warning(
                "ztoc.refused",
                f"ztoc {ztoc.digest}: {from_reference[0]}, as written by the reference; "
                "soci-snapshotter unpacks the layer instead of mounting it lazily",
            )
        )
    findings += [
        Finding(
            "ztoc.refused",
            f"ztoc {ztoc.digest}: soci-snapshotter rejects it: {_text(ztoc, refusal)}",
        )
        for refusal in others[:_MAX_REFUSALS_SHOWN]
    ]
    if (more := len(others) - _MAX_REFUSALS_SHOWN) > 0:
        last = findings[-1]
        findings[-1] = replace(last, message=f"{last.message}; {more} more reasons")
    return findings


def _text(ztoc: Ztoc, refusal: Refusal) -> str:
    if refusal.entry_index is None:
        return refusal.text
    return f"{shown(ztoc.entries[refusal.entry_index].name)}: {refusal.text}"

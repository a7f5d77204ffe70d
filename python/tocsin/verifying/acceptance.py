"""Which acceptance rules of soci-snapshotter a zTOC breaks.

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

_MAX_SHOWN = 3


def early_spans(ztoc: Ztoc) -> range:
    """Return the ids of the spans without output before the first span that has some."""
    if ztoc.compression_algorithm != "gzip":
        return range(0)
    starts = ztoc.spans["uncompressed_start"]
    return range(max(int((starts == 0).sum()) - 1, 0))


def refusals(ztoc: Ztoc) -> list[Finding]:
    """Return which acceptance rules of soci-snapshotter a zTOC breaks.

    Early checkpoints, as the reference makes them, are only warned of: the layer is then unpacked
    as if it had no zTOC. All else makes reading fail, or what is read wrong.
    """
    early = early_spans(ztoc)
    kept: list[Refusal] = []
    others: list[Refusal] = []
    for refusal in ztoc.reader_refusals():
        is_early = refusal.code == "empty-span" and refusal.span_id in early
        (kept if is_early else others).append(refusal)
    findings = []
    if kept:
        findings.append(
            warning(
                "ztoc.refused",
                f"ztoc {ztoc.digest}: {kept[0]}, as the reference makes it; its own reader then "
                "unpacks the layer instead",
            )
        )
    findings += [
        Finding("ztoc.refused", f"ztoc {ztoc.digest}: readers refuse it: {_named(ztoc, refusal)}")
        for refusal in others[:_MAX_SHOWN]
    ]
    if (more := len(others) - _MAX_SHOWN) > 0:
        last = findings[-1]
        findings[-1] = replace(last, message=f"{last.message}; {more} more reasons")
    return findings


def _named(ztoc: Ztoc, refusal: Refusal) -> str:
    if refusal.entry_index is None:
        return refusal.text
    return f"{shown(ztoc.entries[refusal.entry_index].name)}: {refusal.text}"

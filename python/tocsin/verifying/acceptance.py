"""Which acceptance rules of soci-snapshotter a zTOC breaks.

Source: docs/format.md#acceptance-rules.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tocsin.model.finding import Finding
from tocsin.verifying.findings import warning

if TYPE_CHECKING:
    from tocsin.layers.ztoc import Ztoc

_ENTRY = re.compile(r"toc entry (\d+)")
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
    early = {f"span {span_id} is empty on one ruler" for span_id in early_spans(ztoc)}
    told = ztoc.reader_refusals()
    findings = []
    if kept := [refusal for refusal in told if refusal in early]:
        findings.append(
            warning(
                "ztoc.refused",
                f"ztoc {ztoc.digest}: {kept[0]}, as the reference makes it; its own reader then "
                "unpacks the layer instead",
            )
        )
    rest = [_with_name(ztoc, refusal) for refusal in told if refusal not in early]
    findings += [
        Finding("ztoc.refused", f"ztoc {ztoc.digest}: readers refuse it: {refusal}")
        for refusal in rest[:_MAX_SHOWN]
    ]
    if (more := len(rest) - _MAX_SHOWN) > 0:
        last = findings[-1]
        findings[-1] = replace(last, message=f"{last.message}; {more} more reasons")
    return findings


def _with_name(ztoc: Ztoc, refusal: str) -> str:
    found = _ENTRY.match(refusal)
    if found is None:
        return refusal
    return f"{found[0]} ({ztoc.entries[int(found[1])].name}){refusal[found.end() :]}"

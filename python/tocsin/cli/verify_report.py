"""Prints the result of ``verify`` for users."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tocsin.cli import words
from tocsin.cli.output import Column
from tocsin.model.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.cli.output import Output
    from tocsin.model.events import LayerFinished
    from tocsin.verifying.findings import (
        IndexVerdict,
        LayerVerdict,
        PlatformVerdict,
        SeekLayerVerdict,
        SeekTableVerdict,
        VerifyResult,
    )

_COLUMNS = (
    Column("LAYER"),
    Column("SIZE", "right"),
    Column("ZTOC"),
    Column("SPANS", "right"),
    Column("RESULT", wraps=True),
)
_SEEK_COLUMNS = (
    Column("LAYER"),
    Column("SIZE", "right"),
    Column("SEEK BLOB"),
    Column("SPANS", "right"),
    Column("RESULT", wraps=True),
)
_OK = "ok"
_SAMPLE_ONLY = (
    "sample only: windows and offsets of other spans, layer digests and diff IDs were not verified"
)


def layer_line(event: LayerFinished) -> str:
    """Return the line about a finished layer while others are still being verified."""
    layer = event.layer
    return (
        f"{words.short_digest(layer.digest)} {words.size(layer.size)} {_verdict(event.findings)}, "
        f"{words.duration(event.seconds)}"
    )


def write_report(result: VerifyResult, output: Output) -> None:
    """Write a table for each SOCI index and seek table, the findings, and a summary."""
    if output.quiet:
        _write_findings(_only_errors(result.all_findings), output)
        return
    facts = {"image": words.printable(result.image), "digest": str(result.manifest.digest)}
    if result.seed is not None:
        facts["seed"] = str(result.seed)
    output.facts(facts)
    for platform in result.platforms:
        _write_platform(platform, output)
    if result.all_findings:
        output.line()
        _write_findings(result.all_findings, output)
    output.line()
    if result.quick:
        output.line(_SAMPLE_ONLY)
    output.line(_summary(result))


def _write_platform(platform: PlatformVerdict, output: Output) -> None:
    name = str(platform.platform) if platform.platform is not None else "image"
    output.line()
    output.heading(f"{name} · manifest {words.short_digest(platform.manifest.digest)}")
    for index in platform.soci_indexes:
        _write_index(index, output)
    for table in platform.seek_tables:
        _write_seek_table(table, output)
    if not platform.soci_indexes and not platform.seek_tables:
        output.line("no index")


def _write_index(index: IndexVerdict, output: Output) -> None:
    output.line(f"index v{index.version} {index.digest}: {_verdict(index.findings)}")
    if index.layers:
        output.table(_COLUMNS, [_row(layer) for layer in index.layers])


def _write_seek_table(table: SeekTableVerdict, output: Output) -> None:
    output.line(f"seek table {table.digest}: {_verdict(table.findings)}")
    if table.layers:
        output.table(_SEEK_COLUMNS, [_seek_row(layer) for layer in table.layers])


def _seek_row(verdict: SeekLayerVerdict) -> tuple[str, ...]:
    return (
        words.short(verdict.layer.digest),
        words.size(verdict.layer.size),
        words.short(verdict.seek_blob.digest),
        _spans(verdict.checked_spans, verdict.span_count),
        _verdict(verdict.findings),
    )


def _spans(checked: int, count: int) -> str:
    return f"{count:,}" if checked >= count else f"{checked:,} of {count:,}"


def _row(verdict: LayerVerdict) -> tuple[str, ...]:
    layer = verdict.layer
    head = (words.short(layer.digest), words.size(layer.size))
    if verdict.ztoc is None:
        return (*head, words.NOTHING, words.NOTHING, "no zTOC")
    spans = _spans(verdict.checked_spans, verdict.span_count)
    return (*head, words.short(verdict.ztoc.digest), spans, _verdict(verdict.findings))


def _verdict(findings: Iterable[Finding]) -> str:
    """Return ``ok``, with the kinds of warnings and notes, or ``WRONG`` with those of errors."""
    errors = dict.fromkeys(f.kind for f in findings if f.severity is Severity.ERROR)
    if errors:
        return f"WRONG: {', '.join(errors)}"
    others = dict.fromkeys(f"{f.severity}: {f.kind}" for f in findings)
    return f"{_OK} ({', '.join(others)})" if others else _OK


def _write_findings(findings: Iterable[Finding], output: Output) -> None:
    """Write the findings without duplicates, since platforms and indexes share layers."""
    for finding in dict.fromkeys(findings):
        output.line(words.printable(f"{finding.severity}: {finding.kind}: {finding.message}"))


def _only_errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def _summary(result: VerifyResult) -> str:
    ztocs = {
        (verdict.layer.digest, verdict.ztoc.digest) for verdict in result.layers if verdict.ztoc
    }
    indexes = sum(len(platform.soci_indexes) for platform in result.platforms)
    tables = {table.digest for platform in result.platforms for table in platform.seek_tables}
    counts = Counter(finding.severity for finding in dict.fromkeys(result.all_findings))
    parts = [words.count(counts[severity], severity) for severity in Severity if counts[severity]]
    outcome = ", ".join(parts) or "no problems found"
    how = "sampled" if result.quick else "verified"
    verified = []
    if indexes or not tables:
        of_indexes = words.count(indexes, "index", "indexes")
        verified.append(f"{words.count(len(ztocs), 'zTOC')} of {of_indexes}")
    if tables:
        verified.append(words.count(len(tables), "seek table"))
    return f"{' and '.join(verified)} {how} in {words.duration(result.seconds)}: {outcome}"

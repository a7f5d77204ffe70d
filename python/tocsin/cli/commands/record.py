"""``tocsin record``."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tocsin.cli import parameters, words
from tocsin.cli.command import command
from tocsin.cli.image_files import LayerProgress
from tocsin.cli.mount_options import CommandReport, check_record, index_words, recording_options
from tocsin.cli.options import DEFAULT_MIN_LAYER_SIZE, output_options
from tocsin.cli.program_options import program_options
from tocsin.errors import TocsinError, UnsupportedError
from tocsin.operating_system import is_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tocsin.cli.output import Output
    from tocsin.model.access_log import AccessLog
    from tocsin.model.reference import Reference
    from tocsin.model.run_config import RunConfig
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Ready
    from tocsin.recording.push import PushedAccessLog
    from tocsin.recording.summary import LogSummary

_INTERRUPTED = 130
"""Exit code of a program that Ctrl-C has ended."""


@command(summary="Record which files a program of an image uses.", on_linux_only=True)
@click.argument("image", metavar="IMAGE", type=parameters.reference)
@program_options
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the access log to FILE.",
)
@click.option("--merge", is_flag=True, help="Keep what FILE lists, if it exists.")
@click.option(
    "--push", is_flag=True, help="Store the access log beside IMAGE, where mounts find it."
)
@click.option(
    "--replace", "replaces", is_flag=True, help="With --push, drop what earlier logs list."
)
@click.option(
    "--soci",
    is_flag=True,
    help="Create a v1 SOCI index whose prefetch artifacts list the recorded files.",
)
@click.option(
    "--min-layer-size",
    type=parameters.size,
    metavar="SIZE",
    default=DEFAULT_MIN_LAYER_SIZE,
    show_default=True,
    help="With --soci, the compressed size below which layers are not indexed.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    metavar="COUNT",
    default=1,
    show_default=True,
    help="Run the program this many times, and merge the logs.",
)
@click.option(
    "--seconds",
    type=parameters.seconds,
    metavar="SECONDS",
    help="Stop the program after this time.  [default: never]",
)
@click.option(
    "--from",
    "sources",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Use this access log instead of running a program; can be repeated.",
)
@recording_options
@output_options
def record(
    *,
    image: Reference,
    config_of: Callable[[dict[str, Any]], RunConfig],
    read_only: bool,
    target: Path | None,
    merge: bool,
    push: bool,
    replaces: bool,
    soci: bool,
    min_layer_size: int,
    runs: int,
    seconds: float | None,
    sources: tuple[Path, ...],
    options_for: Callable[..., MountOptions],
    log: Path | None,
    output: Output,
) -> None:
    """Run COMMAND in IMAGE, as tocsin run does, and record which files it uses.

    The result is an access log: the files and the ranges that were read, in the order of first use.
    Mounts load first what it lists, so that a program starts sooner. The log goes to FILE with -o,
    or beside the image with --push, where every mount of the image finds it. The image does not
    change. An earlier log beside the image is merged with the new one, unless --replace is given.

    A server does not end by itself: stop it with --seconds or Ctrl-C, and its log is kept. If the
    program fails, the log is written to FILE, but not pushed.

    With --soci, soci-snapshotter also prefetches the recorded files. The new index refers to the
    image; layers without a zTOC are read in full to make it. For an index that is part of an image,
    use tocsin convert --prefetch-list FILE, which changes the digest of the image.

    The exit code is that of COMMAND, or 0 if it was stopped with --seconds or Ctrl-C.

    Examples:
      tocsin record ghcr.io/team/app:1 -o app.log -- app --version
      tocsin record ghcr.io/team/app:1 --push --seconds 20
      tocsin record ghcr.io/team/app:1 --push --from app.log

    What COMMAND prints goes to stderr. With --quiet, only digests are printed. JSON keys: image,
    manifest, platform, output, runs, exit_code, stopped, log: files, ranges, bytes, spans,
    span_bytes; pushed: image, subject, platform, manifest, size, removed[], kept[], unchanged;
    soci_indexes[].
    """
    from tocsin.model.access_log import AccessLog  # noqa: PLC0415 (not for --help)

    _check(image, target, merge=merge, stores=push or soci, replaces=replaces and not push)
    options = options_for(image, allow_other=is_root())
    logs = [AccessLog.read(target)] if merge and target is not None and target.exists() else []
    if sources:
        logs += map(AccessLog.read, sources)
        ended = _Ended(0, 0, stopped=False)
    else:
        recording = _Recording(
            options, config_of, read_only=read_only, seconds=seconds, log=log, output=output
        )
        with _stdout_to_stderr():
            ended = recording.run(runs)
        if not (output.json or output.quiet):
            output.line(ended.text)
        logs += recording.logs
    whole = AccessLog.merged(logs)
    if target is not None:
        whole.write(target)
    if ended.code and not ended.stopped and (push or soci):
        output.warn(f"nothing is pushed, since the program failed with exit code {ended.code}")
        push = soci = False
    with _kept_on_failure(whole, target, output):
        pushed = _push(image, whole, options, output, replaces=replaces) if push else None
        soci_indexes = _create_soci(image, whole, options, min_layer_size, output) if soci else []
    summary = _summary(whole, options)
    code = 0 if ended.stopped else ended.code
    if output.json:
        output.document(
            {
                "image": str(image),
                "manifest": None if whole.image is None else str(whole.image),
                "platform": None if whole.platform is None else str(whole.platform),
                "output": None if target is None else str(target),
                "runs": ended.runs,
                "exit_code": ended.code,
                "stopped": ended.stopped,
                "log": summary.to_dict(),
                "pushed": None if pushed is None else pushed.to_dict(),
                "soci_indexes": soci_indexes,
            }
        )
    elif output.quiet:
        for digest in (*([] if pushed is None else [pushed.manifest.digest]), *soci_indexes):
            output.line(str(digest))
    else:
        _report(summary, target, pushed, soci_indexes, output)
    raise click.exceptions.Exit(code)


def _check(
    image: Reference, target: Path | None, *, merge: bool, stores: bool, replaces: bool
) -> None:
    """Check before the run that the options fit, and that there is a place for the log."""
    if target is None and not stores:
        raise click.UsageError("nowhere to put the access log: give -o FILE, --push or --soci")
    if merge and target is None:
        raise click.UsageError("--merge needs -o FILE")
    if replaces:
        raise click.UsageError("--replace needs --push")
    if stores:
        from tocsin.images.targets import pair_of  # noqa: PLC0415 (not for --help)

        pair_of(image, None)  # raises an error for a store that cannot be written
    check_record(target, "-o")


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the last run ended.

    Attributes:
        code: exit code of the program.
        runs: number of runs.
        stopped: whether it was stopped with ``--seconds`` or Ctrl-C.
    """

    code: int
    runs: int
    stopped: bool

    @property
    def text(self) -> str:
        """How the program ended, in words."""
        which = f"run {self.runs}: " if self.runs > 1 else ""
        how = "was stopped" if self.stopped else f"ended with exit code {self.code}"
        return f"{which}the program {how}"


class _Recording:
    """Runs a program several times.

    Attributes:
        logs: the access logs of the runs.
    """

    def __init__(
        self,
        options: MountOptions,
        config_of: Callable[[dict[str, Any]], RunConfig],
        *,
        read_only: bool,
        seconds: float | None,
        log: Path | None,
        output: Output,
    ) -> None:
        self.logs: list[AccessLog] = []
        self._options = options
        self._config_of = config_of
        self._read_only = read_only
        self._seconds = seconds
        self._log = log
        self._output = output

    def run(self, count: int) -> _Ended:
        """Run the program, and stop after a run that fails or that Ctrl-C has ended."""
        ended = _Ended(0, 0, stopped=False)
        for number in range(1, count + 1):
            with tempfile.TemporaryDirectory(prefix="tocsin-record-") as directory:
                ended = self._run_once(number, Path(directory, "access.log"))
            if ended.code == _INTERRUPTED or (ended.code and not ended.stopped):
                break
        return ended

    def _run_once(self, number: int, file: Path) -> _Ended:
        from tocsin.model.access_log import AccessLog  # noqa: PLC0415 (not for --help)
        from tocsin.mounting.child_signals import TimeLimit  # noqa: PLC0415 (as above)
        from tocsin.mounting.running import run  # noqa: PLC0415 (as above)

        report = CommandReport(self._output)
        shown = LayerProgress(self._output)

        def started(ready: Ready) -> None:
            shown.close()
            report.show()
            report.notes.clear()
            if number == 1:
                self._output.note(
                    f"{ready.image}, {index_words(ready.index)}, {words.size(ready.size)}"
                )

        limit = None if self._seconds is None else TimeLimit(self._seconds)
        try:
            with shown:
                code = run(
                    replace(self._options, record=file),
                    self._config_of,
                    report,
                    started=started,
                    progress=shown,
                    log=self._log,
                    read_only=self._read_only,
                    time_limit=limit,
                )
        finally:
            report.show()
        if not file.exists():
            raise UnsupportedError(
                "the process of the mount ended without an access log",
                hint="Run the command again with --log FILE to see its messages.",
            )
        self.logs.append(AccessLog.read(file))
        is_reached = limit is not None and limit.is_reached
        return _Ended(code, number, stopped=is_reached or code == _INTERRUPTED)


def _push(
    image: Reference, log: AccessLog, options: MountOptions, output: Output, *, replaces: bool
) -> PushedAccessLog:
    from tocsin.recording.push import push_access_log  # noqa: PLC0415 (not for --help)

    pushed = push_access_log(
        image, log, platform=options.platform, replace=replaces, registry=options.registry
    )
    for kept in pushed.kept:
        output.warn(f"access log {kept.digest} could not be removed; mounts use the newest one")
    return pushed


def _create_soci(
    image: Reference, log: AccessLog, options: MountOptions, min_layer_size: int, output: Output
) -> list[str]:
    """Create a version 1 SOCI index with prefetch artifacts, and return the digests."""
    from tocsin.indexing.create import create  # noqa: PLC0415 (not for --help)
    from tocsin.indexing.options import IndexingOptions  # noqa: PLC0415 (as above)

    platform = options.platform or log.platform
    result = create(
        image,
        options=IndexingOptions(
            min_layer_size=min_layer_size,
            platforms=platform,
            threads=options.threads,
            prefetch=[file.path for file in log.files if file.ranges],
        ),
        existing_index="allow",
        registry=options.registry,
    )
    if result.missing_prefetch:
        count = words.count(len(result.missing_prefetch), "recorded file")
        output.warn(f"the SOCI index does not prefetch {count}: their layers have no zTOC")
    return [str(each.soci_index.digest) for each in result.platforms if each.soci_index]


def _summary(log: AccessLog, options: MountOptions) -> LogSummary:
    """Return what the log lists; without its spans if the image cannot be opened again."""
    from tocsin.log import LOG  # noqa: PLC0415 (not for --help)
    from tocsin.mounting.opening import open_for_mount  # noqa: PLC0415 (as above)
    from tocsin.recording.summary import LogSummary, summary_of  # noqa: PLC0415 (as above)

    try:
        opened = open_for_mount(options, note=LOG.info)
        try:
            return summary_of(log, opened.image)
        finally:
            opened.close()
    except (TocsinError, OSError):
        return LogSummary(len(log.files), len(log.reads), log.size)


def _report(
    summary: LogSummary,
    target: Path | None,
    pushed: PushedAccessLog | None,
    soci_indexes: list[str],
    output: Output,
) -> None:
    listed = f"{words.size(summary.size)} in {words.count(summary.ranges, 'range')}"
    spans = words.count(summary.span_count, "span")
    held = f", in {spans} of {words.size(summary.span_size)} compressed"
    place = "access log" if target is None else str(target)
    output.line(
        words.printable(
            f"{place}: {words.count(summary.files, 'file')}, {listed}"
            f"{held if summary.span_count else ''}"
        )
    )
    if pushed is not None:
        state = "exists already" if pushed.unchanged else f"pushed, {words.size(pushed.blob.size)}"
        output.line(f"access log {pushed.manifest.digest} {state}")
    for digest in soci_indexes:
        output.line(f"index {digest}")


@contextmanager
def _kept_on_failure(log: AccessLog, target: Path | None, output: Output) -> Iterator[None]:
    """Keep a log that cannot be pushed, since the program may have run for long."""
    try:
        yield
    except Exception:
        if target is None:
            fd, name = tempfile.mkstemp(prefix="tocsin-record-", suffix=".log")
            os.close(fd)
            log.write(name)
            output.warn(f"the access log is kept in {name}; push it with --from {name}")
        raise


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Let the program write to stderr, since stdout is for the result."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)

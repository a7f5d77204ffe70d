"""The report of `starting`: tables of each part, and the goals."""

from __future__ import annotations

import statistics
from typing import Any

import goals
from starting_containers import MANY
from starting_local import VARIANTS
from starting_remote import WAYS

_Goals = dict[goals.Goal, dict[str, "float | None"]]
_MIB = 1 << 20

# Bounds of each image: until output without a list and with one, over a full pull and run; and
# bytes before output with a list, over the image's.
_START = {"A": (0.60, 0.38, 0.16), "B": (0.12, 0.08, 0.06), "C": (0.50, 0.35, 0.12)}
# With a pack: until output over a full pull and run; bytes before output over the image's.
_PACK = {"A": (0.25, 0.08), "B": (0.05, 0.04), "C": (0.25, 0.08)}
_REFERENCES = {"tag": "tag", "pinned": "digest"}
_WHATS = {"call": "from the end of imports", "command": "whole command"}
_WORKS = {"find": "find", "tar": "tar", "random": "random reads", "program": "program"}


def text(figures: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = [
        "# Starting",
        "",
        f"Load of the machine at the start: {figures['load']:.1f}. Medians of all rounds; the ways "
        "of each table were measured in turns.",
        "",
        "| image | MB | layers | files and directories | eStargz, MB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, image in figures["images"].items():
        lines.append(
            f"| {name}, {image['title']} | {image['size'] / 1e6:.1f} | {len(image['layers'])} "
            f"| {image['files']:,} | {image['estargz'] / 1e6:.1f} |"
        )
    reached: _Goals = {}
    for part, write in (
        ("start", _start),
        ("programs", _programs),
        ("everything", _everything),
        ("background", _background),
        ("ready", _ready),
        ("snapshotter", _snapshotter),
        ("others", _others),
        ("many", _many),
        ("loopback", _loopback),
        ("fetch", _fetch),
        ("second", _second),
        ("complete", _complete),
        ("memory", _memory),
    ):
        if part in figures:
            lines += ["", *write(figures[part], figures, reached)]
    if figures.get("no estargz"):
        lines += ["", f"Without eStargz: {figures['no estargz']}"]
    for name, problem in figures["failed"].items():
        lines += ["", f"{name} failed: {problem}"]
    if reached:
        lines += ["", "## Goals", "", *goals.table(reached)]
    return "\n".join(lines) + "\n"


def _median(runs: list[dict[str, Any]] | None, figure: str) -> float | None:
    values = [run[figure] for run in runs or () if figure in run]
    return statistics.median(values) if values else None


def _ratio(
    runs: dict[str, list[dict[str, Any]]], way: str, peer: str, figure: str = "wall"
) -> float | None:
    """Return the median of the ratios of each round."""
    pairs = zip(runs.get(way, ()), runs.get(peer, ()), strict=False)
    values = [
        one[figure] / other[figure] for one, other in pairs if figure in one and figure in other
    ]
    return statistics.median(values) if values else None


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _failures(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return a paragraph for each problem, with the ways that had it."""
    problems: dict[str, list[str]] = {}
    for way, each in runs.items():
        for run in each:
            if "failed" in run:
                problems.setdefault(run["failed"], []).append(way)
    return [
        line
        for problem, ways in problems.items()
        for line in ("", f"Failed: {', '.join(ways)}: {problem}")
    ]


# -- over the link -----------------------------------------------------------------------------


def _start_table(runs: dict[str, Any], size: float) -> list[str]:
    lines = [
        "| way | s | from, to | of a full pull and run | ready, s | MB | of the image |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way, each in runs.items():
        walls = [run["wall"] for run in each if "wall" in run]
        fetched = _median(each, "bytes") or None  # 0 over loopback, where they are not counted
        spread = f"{min(walls):.2f}, {max(walls):.2f}" if walls else "-"
        cells = (
            WAYS[way].title,
            _number(_median(each, "wall")),
            spread,
            _number(_ratio(runs, way, "full")),
            _number(_median(each, "ready")),
            _number(fetched and fetched / 1e6, 1),
            _number(fetched and fetched / size),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, *_failures(runs)]


def _start(found: dict[str, Any], figures: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Until the output of the program",
        "",
        "Over 200 Mbit/s and 20 ms, from nothing. Bytes are those that arrived on the link until "
        "the output, with the headers of all frames.",
    ]
    for name, runs in found.items():
        size = figures["images"][name]["size"]
        lines += ["", f"### {name}", "", *_start_table(runs, size)]
        without, listed, share = _START[name]
        for text_, bound, suffix in (
            ("without a list", without, ""),
            ("with a list", listed, "-list"),
        ):
            goal = goals.Goal(f"{name}: to output, {text_}, over full pull", bound, at_most=True)
            reached[goal] = {
                column: _ratio(runs, f"{kind}{suffix}", "full")
                for kind, column in _REFERENCES.items()
            }
        goal = goals.Goal(f"{name}: bytes with a list, over the image", share, at_most=True)
        reached[goal] = {
            column: fetched / size
            if (fetched := _median(runs.get(f"{kind}-list"), "bytes"))
            else None
            for kind, column in _REFERENCES.items()
        }
        for suffix in ("", "-list"):
            with_list = ", list" if suffix else ""
            goal = goals.Goal(
                f"{name}: to output, background on over off{with_list}", 1.05, at_most=True
            )
            reached[goal] = {
                column: _ratio(runs, f"{kind}{suffix}-background", f"{kind}{suffix}")
                for kind, column in _REFERENCES.items()
            }
    return lines


def _programs(found: dict[str, Any], figures: dict[str, Any], _: _Goals) -> list[str]:
    lines = ["## Other programs"]
    for name, programs in found.items():
        for program, runs in programs.items():
            size = figures["images"][name]["size"]
            lines += ["", f"### {name}: {program}", "", *_start_table(runs, size)]
    return lines


def _everything(found: dict[str, Any], figures: dict[str, Any], reached: _Goals) -> list[str]:
    lines = ["## A program that reads every file"]
    for name, runs in found.items():
        lines += ["", f"### {name}", "", *_start_table(runs, figures["images"][name]["size"])]
        goal = goals.Goal(f"{name}: reads everything, over full pull", 1.0, at_most=True)
        reached[goal] = _background_ratios(runs)
    return lines


def _background_ratios(runs: dict[str, Any]) -> dict[str, float | None]:
    return {
        column: _ratio(runs, f"{kind}-background", "full") for kind, column in _REFERENCES.items()
    }


def _background(found: dict[str, Any], figures: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Until the image is complete",
        "",
        "Behind a mount that nothing reads; compared with a full pull, without a run.",
    ]
    for name, runs in found.items():
        lines += ["", f"### {name}", "", *_start_table(runs, figures["images"][name]["size"])]
        goal = goals.Goal(f"{name}: complete in the background, over full pull", 1.05, at_most=True)
        reached[goal] = _background_ratios(runs)
    return lines


def _ready(found: dict[str, Any], _: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Until the mount is ready",
        "",
        "The whole command, and the command without its start, in a process that has imported all "
        "modules; with the tables in the cache and with an empty cache.",
        "",
        "| image | table | cache | imported, s | command, s | MB |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    bounds = {("cached", "call"): 0.15, ("fresh", "call"): 0.35}
    bounds |= {("cached", "command"): 0.40, ("fresh", "command"): 0.60}
    for name, runs in found.items():
        for kind, column in _REFERENCES.items():
            for cached in ("cached", "fresh"):
                call, command = (
                    _median(runs.get(f"{kind}/{cached}/{what}"), "wall")
                    for what in ("call", "command")
                )
                fetched = _median(runs.get(f"{kind}/{cached}/command"), "bytes")
                cells = (_number(call), _number(command), _number(fetched and fetched / 1e6))
                state = "cached" if cached == "cached" else "empty"
                lines.append(f"| {name} | {column} | {state} | {' | '.join(cells)} |")
                for what, value in (("call", call), ("command", command)):
                    state = "table cached" if cached == "cached" else "empty cache"
                    goal = goals.Goal(
                        f"{name}: ready, {state}, {_WHATS[what]}, s",
                        bounds[cached, what],
                        at_most=True,
                    )
                    reached.setdefault(goal, {})[column] = value
        lines += _failures(runs)
    return lines


def _snapshotter(found: dict[str, Any], figures: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Until the output of the program, with containerd",
        "",
        "`ctr-remote image rpull` and `ctr run`; list and pack are those of the same program.",
    ]
    for name, runs in found.items():
        size = figures["images"][name]["size"]
        lines += ["", f"### {name}", "", *_start_table(runs, size)]
        over_full, share = _PACK[name]
        goal = goals.Goal(f"{name}: containerd, pack, over full pull", over_full, at_most=True)
        reached[goal] = {"tag": _ratio(runs, "rpull-pack", "full")}
        goal = goals.Goal(f"{name}: bytes with a pack, over the image", share, at_most=True)
        fetched = _median(runs.get("rpull-pack"), "bytes")
        reached[goal] = {"tag": fetched and fetched / size}
        for way, bound in (("pack", 0.70), ("list", 1.0)):
            goal = goals.Goal(f"{name}: containerd, {way}, over eStargz", bound, at_most=True)
            reached[goal] = {"tag": _ratio(runs, f"rpull-{way}", "estargz")}
    return lines


def _others(found: dict[str, Any], figures: dict[str, Any], reached: _Goals) -> list[str]:
    lines = ["## Programs that were not recorded, with containerd"]
    for name, programs in found.items():
        for program, runs in programs.items():
            size = figures["images"][name]["size"]
            lines += ["", f"### {name}: {program}", "", *_start_table(runs, size)]
            for way in ("list", "pack"):
                title = f"{name}: {program}, {way} of another program, over none"
                goal = goals.Goal(title, 1.05, at_most=True)
                reached[goal] = {"tag": _ratio(runs, f"rpull-{way}", "rpull")}
    return lines


def _many(found: dict[str, Any], _: dict[str, Any], reached: _Goals) -> list[str]:
    runs = found["runs"]["tocsin"]
    wall, fetched, cpu, bound = (
        _median(runs, figure) for figure in ("wall", "bytes", "cpu", "bound")
    )
    lines = [
        f"## {MANY} different images at the same time, with containerd",
        "",
        "From nothing until the output of all. The goal is the time in which the link carries "
        "their bytes, half of the CPU time of starting each again afterwards, and 2 s.",
        "",
        "| s | MB | CPU of starting each again, s | goal, s |",
        "| ---: | ---: | ---: | ---: |",
        f"| {_number(wall)} | {_number(fetched and fetched / 1e6, 1)} | {_number(cpu)} "
        f"| {_number(bound)} |",
    ]
    goal = goals.Goal(f"{MANY} images at the same time, over the sum of its parts", 1, at_most=True)
    reached[goal] = {"tag": _ratio({"runs": runs, "bound": _as_walls(runs)}, "runs", "bound")}
    return [*lines, *_failures(found["runs"])]


def _as_walls(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"wall": run["bound"]} for run in runs if "bound" in run]


# -- over loopback -----------------------------------------------------------------------------


def _loopback(found: dict[str, Any], figures: dict[str, Any], _: _Goals) -> list[str]:
    lines = ["## Until the output of the program, over loopback"]
    for name, runs in found.items():
        lines += ["", f"### {name}", "", *_start_table(runs, figures["images"][name]["size"])]
    return lines


def _fetch(found: dict[str, Any], _: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Downloading all of an image, over loopback",
        "",
        "| image | way | s | of copy and unpack |",
        "| --- | --- | ---: | ---: |",
    ]
    titles = {
        "peer/plain": "`skopeo copy`, `umoci unpack`",
        "fetch/pinned": "`tocsin fetch`, digest",
        "fetch/tag": "`tocsin fetch`, tag",
        "cp/pinned": "`tocsin cp`, digest",
        "cp/tag": "`tocsin cp`, tag",
        "fetched/pinned": "`tocsin cp` after `tocsin fetch`, digest",
        "fetched/tag": "`tocsin cp` after `tocsin fetch`, tag",
    }
    problems: list[str] = []
    for name, runs in found.items():
        for way, title in titles.items():
            wall, ratio = _median(runs.get(way), "wall"), _ratio(runs, way, "peer/plain")
            lines.append(f"| {name} | {title} | {_number(wall)} | {_number(ratio)} |")
        goal = goals.Goal(f"{name}: `tocsin fetch`, over copy and unpack", 0.5, at_most=True)
        reached[goal] = {
            column: _ratio(runs, f"fetch/{kind}", "peer/plain")
            for kind, column in _REFERENCES.items()
        }
        problems += _failures(runs)
    return [*lines, *problems]


def _second(found: dict[str, Any], _: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Another container of a complete image, with containerd",
        "",
        "`ctr run`, after a pull and a first container of the image, which are not counted.",
        "",
        "| image | second, overlayfs, s | tocsin, s | ratio | third, overlayfs, s | tocsin, s "
        "| ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    problems: list[str] = []
    for name, runs in found.items():
        cells = []
        for figure in ("wall", "third"):
            cells += [_number(_median(runs.get(way), figure)) for way in ("native", "tocsin")]
            cells.append(_number(_ratio(runs, "tocsin", "native", figure)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
        goal = goals.Goal(f"{name}: second container, over overlayfs", 1.1, at_most=True)
        reached[goal] = {"tag": _ratio(runs, "tocsin", "native")}
        problems += _failures(runs)
    return [*lines, *problems]


def _complete(found: dict[str, Any], _: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Work on a complete image",
        "",
        "Overlayfs on each mount, with all files in memory: the first pass and one after it, over "
        "native overlayfs. `erofs-live` was mounted before the image was complete.",
        "",
        "| image | work | pass | native, ms | fuse | erofs | erofs-live |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    problems: list[str] = []
    for name, one in found.items():
        runs = one["runs"]
        for work, title in _WORKS.items():
            for when in ("first", "warm"):
                native = _median(runs.get(f"native/{work}"), when)
                cells = []
                for variant in VARIANTS:
                    if variant == "native":
                        continue
                    ratio = _ratio(runs, f"{variant}/{work}", f"native/{work}", when)
                    cells.append(_number(ratio))
                    if bound := _bound(variant, work, when):
                        goal = goals.Goal(
                            f"{name}: complete, {title}, {when}, over native: {variant}",
                            bound, at_most=True,
                        )  # fmt: skip
                        reached[goal] = {"digest": ratio}
                cells.insert(0, _number(native and native * 1e3, 1))
                lines.append(f"| {name} | {title} | {when} | {' | '.join(cells)} |")
        problems += _failures(runs)
        if one["failed"]:
            problems += ["", f"{name} was not completed: {one['failed']}"]
    return [*lines, *problems]


def _bound(variant: str, work: str, when: str) -> float | None:
    """Return the goal for a ratio to native overlayfs, or None."""
    if when == "warm":
        if variant == "fuse":
            return 2.0 if work == "tar" else 1.6
        return 1.3 if work == "random" else 1.15
    return {"fuse": None, "erofs": 2.0, "erofs-live": 6.0 if work == "random" else 2.2}[variant]


def _memory(found: dict[str, Any], _: dict[str, Any], reached: _Goals) -> list[str]:
    lines = [
        "## Memory of the process behind a mount of 200,000 files",
        "",
        "Resident memory in MiB, without files of the cache; anonymous memory is that without the "
        "files of the interpreter and its libraries.",
        "",
        "| front | after mounting | after reading all files | of it anonymous |",
        "| --- | ---: | ---: | ---: |",
    ]
    for front, runs in found.items():
        values = [_median(runs, figure) for figure in ("mounted", "read", "anonymous")]
        read = values[1]
        cells = (_number(value and value / _MIB, 1) for value in values)
        lines.append(f"| {front} | {' | '.join(cells)} |")
        goal = goals.Goal(f"memory of a mount of 200,000 files, {front}, MiB", 80, at_most=True)
        reached[goal] = {"digest": read and read / _MIB}
    return [*lines, *_failures(found)]

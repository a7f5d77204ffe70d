"""Generated content (logs, small source files and noise), deterministic for each seed."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SEED = 20261124
_START = 1767225600.0  # 2026-01-01T00:00:00Z, in seconds

_WORDS = (  # noqa: SIM905 a list of literals would take three screens
    "account address archive batch buffer cache cart catalog channel checkout client cluster "
    "commit config console context counter cursor customer daemon deploy digest driver editor "
    "engine event export factory feature filter folder format gateway graph handler header "
    "history image index inventory invoice journal kernel key label layer ledger library limit "
    "listener locale manager market matrix member message metric mirror model module monitor "
    "network node notice object offer option order packet panel parser payment pipeline plugin "
    "policy pool portal price process product profile project prompt proxy queue range record "
    "region registry release report request resolver result review router rule sample schema "
    "search server session shape signal snapshot socket source stock storage stream style "
    "subject summary system table target task template tenant theme thread ticket token topic "
    "trace transfer update upload user vector vendor version view volume warehouse watcher "
    "widget window worker zone"
).split()
_FOLDERS = ("share/doc", "share/locale", "share/icons", "lib/python3", "lib/modules", "src", "lib")
_ENDINGS = (".py", ".js", ".json", ".md", ".h", ".c", ".so", ".html", ".png", ".conf", "")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36",
    "curl/7.88.1",
    "kube-probe/1.29",
    "Prometheus/2.53.0",
)
_SERVICES = ("checkout", "cart", "search", "auth", "ledger")
_MESSAGES = (
    "request completed",
    "cache miss",
    "retrying upstream",
    "db query",
    "token refreshed",
)


def generator(stream: int) -> random.Random:
    """Return the deterministic random generator number `stream`."""
    return random.Random(_SEED + stream)  # noqa: S311 it must be reproducible


def prose(stream: int, size: int) -> bytes:
    """Return `size` bytes of words with the frequency distribution of prose."""
    rng = generator(stream)
    words = [rng.randbytes(rng.randrange(1, 6)).hex() for _ in range(4_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    # Words have at least two bytes and a space, so `size // 3 + 1` words are enough.
    text = " ".join(rng.choices(words, weights, k=size // 3 + 1))
    return text.encode("ascii")[:size]


def noise(stream: int, size: int) -> bytes:
    """Return `size` incompressible bytes."""
    return generator(stream).randbytes(size)


def write_logs(folder: Path, *, size: int) -> None:
    """Write an access log, a JSON event log and a syslog to `folder`, `size` bytes in total."""
    rng = generator(0)
    paths = [_path(rng) for _ in range(20_000)]
    for name, lines in (
        ("access.log", _access_log(rng, paths)),
        ("events.jsonl", _event_log(rng, paths)),
        ("syslog", _syslog(rng, paths)),
    ):
        with (folder / name).open("w", encoding="ascii") as file:
            while file.tell() < size // 3:
                file.writelines(itertools.islice(lines, 1000))


def write_modules(folder: Path, *, size: int) -> None:
    """Write small JavaScript modules to `folder`, `size` bytes in total."""
    rng = generator(1)
    written = 0
    while written < size:
        module = folder.joinpath("made", rng.choice(_WORDS), rng.choice(_WORDS))
        module.mkdir(parents=True, exist_ok=True)
        text = "".join(_function(rng) for _ in range(rng.randrange(1, 24)))
        (module / f"{rng.choice(_WORDS)}-{rng.randrange(1000)}.js").write_text(text, "ascii")
        written += len(text)


def write_noise(folder: Path, *, size: int) -> None:
    """Write incompressible files of up to 1 MiB to `folder`, `size` bytes in total."""
    rng = generator(2)
    made = folder / "made"
    made.mkdir(parents=True, exist_ok=True)
    written = 0
    while written < size:
        count = min(rng.randrange(1 << 12, 1 << 20), size - written)
        (made / f"{rng.choice(_WORDS)}-{written}.bin").write_bytes(rng.randbytes(count))
        written += count


def _path(rng: random.Random) -> str:
    depth = rng.randrange(1, 5)
    middle = "/".join(rng.choice(_WORDS) for _ in range(depth))
    name = f"{rng.choice(_WORDS)}{rng.choice('-_.')}{rng.choice(_WORDS)}{rng.choice(_ENDINGS)}"
    return f"/usr/{rng.choice(_FOLDERS)}/{middle}/{name}"


def _function(rng: random.Random) -> str:
    verb, noun, other = rng.choice(_WORDS), rng.choice(_WORDS), rng.choice(_WORDS)
    name = f"{verb}{noun.title()}"
    return (
        f'"use strict";\nconst {other} = require("./{rng.choice(_WORDS)}");\n\n'
        f"/** {verb.title()} the {noun} of one {other}. */\n"
        f"function {name}({noun}, {{ limit = {rng.randrange(4096)} }} = {{}}) {{\n"
        f"  if (!{noun} || {noun}.length > limit) {{\n"
        f'    throw new Error("{verb} {noun}: {rng.choice(_MESSAGES)}");\n  }}\n'
        f"  return {other}.{rng.choice(_WORDS)}({noun}, 0x{rng.getrandbits(32):08x});\n}}\n\n"
        f"module.exports = {{ {name} }};\n"
    )


def _access_log(rng: random.Random, paths: list[str]) -> Iterator[str]:
    addresses = [
        f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(3000)
    ]
    time = _START
    while True:
        time += rng.expovariate(20)
        status = rng.choices((200, 304, 404, 500), (80, 12, 7, 1))[0]
        yield (
            f'{rng.choice(addresses)} - - [{int(time)}] "GET {rng.choice(paths)} HTTP/1.1" '
            f'{status} {int(rng.lognormvariate(8, 2))} "-" "{rng.choice(_AGENTS)}" '
            f"{rng.expovariate(9):.3f}\n"
        )


def _event_log(rng: random.Random, paths: list[str]) -> Iterator[str]:
    time = _START
    while True:
        time += rng.expovariate(50)
        event = {
            "ts": round(time, 6),
            "level": rng.choices(("info", "warn", "error", "debug"), (70, 8, 2, 20))[0],
            "trace_id": f"{rng.getrandbits(128):032x}",
            "span_id": f"{rng.getrandbits(64):016x}",
            "svc": rng.choice(_SERVICES),
            "msg": rng.choice(_MESSAGES),
            "dur_ms": round(rng.lognormvariate(2, 1), 3),
            "file": rng.choice(paths),
        }
        yield f"{json.dumps(event)}\n"


def _syslog(rng: random.Random, paths: list[str]) -> Iterator[str]:
    time = _START
    for line in itertools.count():
        time += rng.expovariate(30)
        yield (
            f"{int(time)} node-{rng.randrange(40):02d} kernel: [{time % 1e6:12.6f}] audit: "
            f'type=1400 audit({time:.3f}:{line}): apparmor="ALLOWED" operation="open" '
            f'profile="snap" name="{rng.choice(paths)}" pid={rng.randrange(65536)} '
            f'comm="{rng.choice(("python3", "sh", "node", "java"))}" requested_mask="r"\n'
        )

"""The metadata of a path, in `tocsin.reading.stat`."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

import tocsin
from support import tampered, tarmaker
from tocsin.reading.stat import FileStat, file_stat

SECONDS = 1_700_000_000


def mtime_of(tmp_path, pax_mtime: str, stored: str | None = None) -> tocsin.FileStat:
    """Return the metadata of a file whose time in the zTOC is replaced with `stored`."""
    layer = tarmaker.tar(tarmaker.entry("a", pax={"mtime": pax_mtime}))
    (tmp_path / "layer").write_bytes(layer)
    ztoc = tocsin.build_ztoc(layer).to_bytes()
    if stored is not None:
        ztoc = tampered.with_text(ztoc, 0, "mod_time", stored.encode())
    with tocsin.open_layer(tmp_path / "layer", ztoc) as files:
        return files.stat("a")


@pytest.mark.parametrize(
    ("mtime", "nanoseconds"),
    [
        ("0", 0),
        (f"{SECONDS}", SECONDS * 10**9),
        (f"{SECONDS}.5", SECONDS * 10**9 + 500_000_000),
        (f"{SECONDS}.000000001", SECONDS * 10**9 + 1),
        ("-0.25", -250_000_000),
        ("-62135596800", -62_135_596_800 * 10**9),
    ],
)
def test_mtime_when_the_archive_has_nanoseconds_then_preserved(tmp_path, mtime, nanoseconds):
    found = mtime_of(tmp_path, mtime)
    assert found.mtime_ns == nanoseconds
    assert found.mtime.timestamp() == nanoseconds // 1000 / 1e6


@pytest.mark.parametrize(
    ("mtime", "stored", "nanoseconds"),
    [
        # The reference writes times in the local time zone.
        (f"{SECONDS}.1234", "2023-11-14T17:13:20-05:00", SECONDS * 10**9),
        (f"{SECONDS}.1234567", "2023-11-15T03:43:20.25+05:30", SECONDS * 10**9 + 250_000_000),
        (f"{SECONDS}", "2023-99-14T22:13:20Z", 0),
        (f"{SECONDS}", "2023-11-14 22:13:20Z", 0),
        (f"{SECONDS}", "\u20ac" * 6 + "ab", 0),
    ],
)
def test_mtime_when_the_ztoc_has_other_text_then_rfc_3339_or_0(
    tmp_path, mtime, stored, nanoseconds
):
    assert mtime_of(tmp_path, mtime, stored).mtime_ns == nanoseconds


@pytest.mark.parametrize("mtime", ["-62167219200", "-62135596800.5", f"{1 << 50}"])
def test_mtime_when_out_of_range_for_datetime_then_0(tmp_path, mtime):
    assert mtime_of(tmp_path, mtime).mtime_ns == 0


ROW = ("/a", "file", 5, 0o644, 1, 2, "u", "g", 7, "", 0, 0, {"user.a": b"b"}, 9, 1)


def test_file_stat_when_made_from_a_row_then_like_any_other():
    made, plain = file_stat(ROW, None), FileStat(*ROW, None)
    assert type(made) is FileStat
    assert made == plain
    assert hash(made) == hash(plain)
    assert repr(made) == repr(plain)
    assert dataclasses.asdict(made) == dataclasses.asdict(plain)
    assert dataclasses.replace(made, size=6).size == 6
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == plain  # noqa: S301 (made here)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.size = 1


def test_file_stat_when_a_row_has_the_wrong_length_then_an_error():
    with pytest.raises(ValueError, match="unpack"):
        file_stat(ROW[1:], None)

"""Access logs: the format of docs/access-log.md, limits, hostile files, and atomic writing."""

import json
import os
import pickle
import random
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import hostile_json
from support.instructions import Instructions
from tocsin.errors import FormatError, UnsupportedError
from tocsin.model import access_log
from tocsin.model.access_log import AccessedFile, AccessLog
from tocsin.model.access_recorder import AccessRecorder
from tocsin.model.digest import Digest
from tocsin.model.platform import Platform

IMAGE = Digest.of(b"image")
LOG = AccessLog(
    (
        AccessedFile(0.5, "usr/bin/app", ((0, 4096), (131072, 262144))),
        AccessedFile(0.75, "etc/caf\udce9"),
        AccessedFile(1.0, "etc/é\n"),
    ),
    IMAGE,
    Platform("linux", "arm64", variant="v8"),
    "tocsin 0.1.0",
)
TEXT = (
    '{"format":"tocsin-access-log","version":1,"image":"IMAGE","platform":"linux/arm64/v8",'
    '"tool":"tocsin 0.1.0"}\n'
    '{"time":0.5,"path":"usr/bin/app","ranges":[[0,4096],[131072,262144]]}\n'
    '{"time":0.75,"path":"etc/caf\\udce9","ranges":[]}\n'
    '{"time":1.0,"path":"etc/\\u00e9\\n","ranges":[]}\n'
).replace("IMAGE", str(IMAGE))
HEADER = b'{"format":"tocsin-access-log","version":1}\n'


def test_log_when_encoded_then_as_in_the_documentation():
    assert LOG.to_bytes().decode() == TEXT
    assert AccessLog.from_bytes(TEXT.encode()) == LOG


def test_log_when_only_a_header_then_empty():
    assert AccessLog.from_bytes(HEADER.rstrip()) == AccessLog()
    assert AccessLog.from_bytes(AccessLog().to_bytes()) == AccessLog()


def test_log_when_keys_are_unknown_then_ignored():
    line = b'{"path":"a","new":[{}],"ranges":[[1,2]]}\n'
    (file,) = AccessLog.from_bytes(HEADER.replace(b"}", b',"new":1}') + line).files
    assert file == AccessedFile(0.0, "a", ((1, 2),))


def test_reads_when_listed_then_in_order_without_opened_files():
    assert LOG.reads == (("usr/bin/app", 0, 4096), ("usr/bin/app", 131072, 262144))


def test_within_when_image_is_another_then_rest_is_left_out_and_cut():
    sizes = {"usr/bin/app": 200_000, "etc/é\n": 0}
    found = LOG.within(sizes.get)
    assert found.reads == (("usr/bin/app", 0, 4096), ("usr/bin/app", 131072, 200_000))
    assert [file.path for file in found.files] == ["usr/bin/app", "etc/é\n"]
    assert (found.image, found.platform, found.tool) == (LOG.image, LOG.platform, LOG.tool)
    assert LOG.within({"usr/bin/app": 4096}.get).reads == (("usr/bin/app", 0, 4096),)
    assert LOG.within(lambda _: None).files == ()


def test_log_when_pickled_then_equal():
    assert pickle.loads(pickle.dumps(LOG)) == LOG  # noqa: S301 (our own bytes)


names = st.binary(min_size=1, max_size=40).map(lambda name: name.decode("utf-8", "surrogateescape"))
ranges = st.tuples(st.integers(0, (1 << 62) - 1), st.integers(1, 1 << 62)).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)
files = st.builds(
    AccessedFile,
    st.integers(0, 10**12).map(lambda micros: round(micros / 10**6, 6)),
    names,
    st.lists(ranges, max_size=4).map(tuple),
)
logs = st.builds(
    AccessLog,
    st.lists(files, max_size=5).map(tuple),
    st.none() | st.binary().map(Digest.of),
    st.none() | st.just(Platform("linux", "amd64")),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@given(logs)
def test_log_when_encoded_and_parsed_then_equal(log):
    data = log.to_bytes()
    assert data.isascii()
    assert AccessLog.from_bytes(data) == log


@given(st.integers(0, 2**32))
def test_log_when_hostile_then_error_or_log(seed):
    made = Instructions(random.Random(seed).randbytes(64))  # noqa: S311 (a test)
    lines = TEXT.splitlines()
    at = made.byte() % len(lines)
    spoiled = hostile_json.spoil(json.loads(lines[at]), made)
    data = "\n".join(lines[:at]).encode() + b"\n" * (at > 0) + spoiled
    with suppress(FormatError, UnsupportedError):
        log = AccessLog.from_bytes(data)
        assert AccessLog.from_bytes(log.to_bytes()) == log


@given(st.binary(max_size=200))
def test_log_when_random_bytes_then_format_error(data):
    with pytest.raises(FormatError, match=r"^access log: "):
        AccessLog.from_bytes(data)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[]", "line 2: found a JSON array, expected an object"),
        ("{", "line 2: invalid JSON"),
        ("[" * 100_000, "line 2: invalid JSON"),
        ('{"path":"a","time":NaN}', "line 2: invalid JSON"),
        ('{"path":"a","time":%s}' % ("9" * 5000), "line 2: invalid JSON"),
        ('{"path":"a","time":1e999}', "line 2: time: expected a number of seconds"),
        ('{"path":"a","time":-1}', "line 2: time: expected a number of seconds"),
        ('{"path":"a","time":true}', "line 2: time: expected a number of seconds"),
        ("{}", "line 2: path: expected a string that is not empty"),
        ('{"path":7}', "line 2: path: expected a string that is not empty"),
        ('{"path":"\\ud800"}', "line 2: path: found a surrogate that does not represent a byte"),
        (
            '{"path":"%s"}' % ("é" * 2049),
            "path: too long (found 4098 bytes, expected at most 4096)",
        ),
        ('{"path":"a","ranges":{}}', "line 2: ranges: found object, expected array"),
        ('{"path":"a","ranges":[[0,1,2]]}', "line 2: ranges: expected pairs of integers"),
        ('{"path":"a","ranges":[[0,0]]}', "line 2: ranges: expected pairs of integers"),
        ('{"path":"a","ranges":[[-1,2]]}', "line 2: ranges: expected pairs of integers"),
        ('{"path":"a","ranges":[[0,true]]}', "line 2: ranges: expected pairs of integers"),
        ('{"path":"a","ranges":[[0,9223372036854775808]]}', "expected pairs of integers"),
        (
            json.dumps({"path": "a", "ranges": [[0, 1]] * 1001}),
            "line 2: ranges: found 1001 elements, expected at most 1000",
        ),
        ('{"path":"%s"}' % ("a" * 131_072), "line 2: longer than 131072 bytes"),
        ("\n", "line 2: invalid JSON"),
    ],
)
def test_file_when_wrong_then_format_error_with_its_line(line, problem):
    with pytest.raises(FormatError) as refusal:
        AccessLog.from_bytes(HEADER + line.encode())
    assert problem in refusal.value.message
    assert (refusal.value.what, refusal.value.offset) == ("access log", "line 2")


def test_file_when_not_utf8_then_format_error():
    with pytest.raises(FormatError, match="line 2: invalid JSON"):
        AccessLog.from_bytes(HEADER + b'{"path":"\xff"}')


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("", "access log: invalid JSON at character 0"),
        ("[]", "access log: found a JSON array, expected an object"),
        ("{}", 'access log: format: found "", expected tocsin-access-log'),
        ('{"format":"tocsin-access-log","version":"1"}', "access log: version: found string"),
        ('{"format":"tocsin-access-log","version":1,"image":"x"}', "access log: image: "),
        ('{"format":"tocsin-access-log","version":1,"platform":"/"}', "access log: platform: "),
        ('{"tool":"%s"}' % ("a" * 131_072), "access log: too large"),
    ],
)
def test_header_when_wrong_then_format_error(header, problem):
    with pytest.raises(FormatError) as refusal:
        AccessLog.from_bytes(header.encode())
    assert refusal.value.message.startswith(problem)
    assert refusal.value.what == "access log"


def test_header_when_version_is_unknown_then_unsupported_error():
    with pytest.raises(UnsupportedError, match="version is 2, expected 1") as refusal:
        AccessLog.from_bytes(HEADER.replace(b"1", b"2"))
    assert refusal.value.hint is not None


def test_path_when_bytes_are_escaped_that_are_utf8_then_decoded():
    (file,) = AccessLog.from_bytes(HEADER + b'{"path":"\\udcc3\\udca9"}').files
    assert file.path == "é"


def test_log_when_too_large_then_format_error(monkeypatch):
    monkeypatch.setattr(access_log, "MAX_SIZE", 60)
    with pytest.raises(FormatError, match="too large"):
        AccessLog.from_bytes(HEADER + b'{"path":"abcdefgh"}\n')


@pytest.mark.parametrize(("limit", "word"), [("MAX_FILES", "files"), ("MAX_RANGES", "ranges")])
def test_log_when_it_has_too_many_then_format_error(monkeypatch, limit, word):
    monkeypatch.setattr(access_log, limit, 2)
    line = b'{"path":"a","ranges":[[0,1]]}\n'
    assert len(AccessLog.from_bytes(HEADER + line * 2).files) == 2
    with pytest.raises(FormatError, match=f"more than 2 {word}"):
        AccessLog.from_bytes(HEADER + line * 3)


def test_write_when_done_then_read_returns_the_log_and_nothing_is_left(tmp_path):
    target = tmp_path / "log"
    target.write_text("old")
    (tmp_path / "link").symlink_to("log")
    LOG.write(tmp_path / "link")
    assert AccessLog.read(str(target)) == LOG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "log"]
    assert (tmp_path / "link").is_symlink()


def test_write_when_it_fails_then_the_old_file_is_unchanged(tmp_path, monkeypatch):
    target = tmp_path / "log"
    target.write_text("old")

    def fsync(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="the disk is full"):
        LOG.write(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_read_when_the_file_is_not_a_log_then_the_error_names_it(tmp_path):
    (tmp_path / "log").write_bytes(b"{}\n")
    with pytest.raises(FormatError) as refusal:
        AccessLog.read(tmp_path / "log")
    assert refusal.value.__notes__ == [str(tmp_path / "log")]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_write_when_target_is_not_a_file_then_os_error(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(OSError, match="not a regular file") as refusal:
        LOG.write(tmp_path / "x")
    assert refusal.value.filename == str(tmp_path / "x")
    with pytest.raises(OSError, match="not a regular file"):
        AccessLog.read(tmp_path / "x")


def recorded(*accesses):
    recorder = AccessRecorder()
    recorder.add(accesses)
    return recorder.log().files


def test_recorder_when_files_are_used_then_in_order_of_first_use():
    assert recorded((0.1, "b", 0, 0), (0.2, "a", 0, 10), (0.3, "b", 20, 30), (0.4, "b", 0, 10)) == (
        AccessedFile(0.1, "b", ((20, 30), (0, 10))),
        AccessedFile(0.2, "a", ((0, 10),)),
    )


def test_recorder_when_ranges_touch_then_joined_at_the_first():
    (file,) = recorded(
        (0, "a", 100, 110), (0, "a", 0, 10), (0, "a", 10, 20), (0, "a", 15, 30), (0, "a", 50, 60)
    )
    assert file.ranges == ((100, 110), (0, 30), (50, 60))
    (file,) = recorded((0, "a", 0, 1), (0, "a", 8, 9), (0, "a", 4, 5), (0, "a", 3, 10))
    assert file.ranges == ((0, 1), (3, 10))


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=30))
def test_recorder_when_compared_with_a_set_of_bytes_then_equal(reads):
    recorder = AccessRecorder()
    plain = set()
    for start, size in reads:
        recorder.add([(0, "a", start, start + size)])
        plain |= set(range(start, start + size))
    found = [each for file in recorder.log().files for each in file.ranges]
    assert sorted(byte for start, end in found for byte in range(start, end)) == sorted(plain)
    ordered = sorted(found)
    assert all(end < start for (_, end), (start, _) in pairwise(ordered))
    first_uses = [
        min(at for at, (start, size) in enumerate(reads) if size and low <= start < high)
        for low, high in found
    ]
    assert first_uses == sorted(first_uses)


def test_recorder_when_ranges_are_too_many_then_the_closest_are_joined():
    reads = [(0, "a", at * 100, at * 100 + (99 if at % 2 else 1)) for at in range(5000)]
    (file,) = recorded(*reads)
    assert len(file.ranges) <= access_log.MAX_FILE_RANGES
    for _, _, start, end in reads:
        assert any(low <= start and end <= high for low, high in file.ranges)
    assert AccessLog.from_bytes(AccessLog((file,)).to_bytes()).files == (file,)


@pytest.mark.parametrize(
    "limit", ["access_recorder.MAX_FILES", "access_log.MAX_FILES", "access_log.MAX_RANGES"]
)
def test_recorder_when_a_limit_is_reached_then_the_log_ends(monkeypatch, limit):
    monkeypatch.setattr(f"tocsin.model.{limit}", 3)
    recorder = AccessRecorder()
    recorder.add((0, str(at), 0, 1) for at in range(3))
    assert (len(recorder.log().files), recorder.is_full) == (3, False)
    recorder.add((0, str(at), 0, 1) for at in range(5))
    assert [file.path for file in recorder.log().files] == ["0", "1", "2"]
    assert recorder.is_full


def test_recorder_when_the_log_would_be_too_large_then_it_ends(monkeypatch):
    monkeypatch.setattr(access_log, "MAX_SIZE", (64 << 10) + 100)
    files = recorded(*((0, str(at), 0, 1) for at in range(5)))
    assert [file.path for file in files] == ["0", "1"]


def log_of(*files):
    return AccessLog(tuple(AccessedFile(*file) for file in files))


def test_merged_when_several_runs_then_in_order_of_the_earliest_time():
    one = log_of((0.1, "a", ((0, 10),)), (0.2, "b", ((5, 9),)), (0.9, "c"))
    two = log_of((0.15, "c", ((7, 8),)), (0.2, "d"), (0.3, "a", ((20, 30), (5, 12))))
    assert AccessLog.merged([one, two]).files == (
        AccessedFile(0.1, "a", ((0, 12), (20, 30))),
        AccessedFile(0.15, "c", ((7, 8),)),
        AccessedFile(0.2, "b", ((5, 9),)),
        AccessedFile(0.2, "d"),
    )


def test_merged_when_times_are_not_in_order_then_that_of_the_lines_is_kept():
    log = log_of((5, "a"), (1, "b"), (0, "c"))
    assert [file.path for file in AccessLog.merged([log]).files] == ["a", "b", "c"]
    other = log_of((4, "b"))
    assert [file.path for file in AccessLog.merged([log, other]).files] == ["b", "a", "c"]


def test_merged_when_logs_agree_on_the_image_then_it_is_kept():
    one, other = LOG, AccessLog((), Digest.of(b"other"), Platform("linux", "arm64", variant="v8"))
    assert AccessLog.merged([one, one]) == one
    found = AccessLog.merged([one, other])
    assert (found.image, found.platform, found.tool) == (None, one.platform, one.tool)
    assert AccessLog.merged([]) == AccessLog()


small_files = st.builds(
    AccessedFile,
    st.integers(0, 6).map(float),
    st.sampled_from("abcde"),
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda p: (p[0], p[0] + p[1])),
        max_size=4,
    ).map(tuple),
)
small_logs = st.lists(
    st.builds(AccessLog, st.lists(small_files, max_size=6).map(tuple)), max_size=4
)


def bytes_in(logs):
    return {(path, byte) for log in logs for path, *pair in log.reads for byte in range(*pair)}


@given(small_logs)
def test_merged_when_compared_with_sets_then_nothing_is_lost_or_invented(logs):
    found = AccessLog.merged(logs)
    assert bytes_in([found]) == bytes_in(logs)
    assert len(bytes_in([found])) == found.size, "no byte is listed twice"
    paths = [file.path for file in found.files]
    assert sorted(paths) == sorted({file.path for log in logs for file in log.files})
    for at, path in enumerate(paths):
        for before in paths[:at]:
            # Some run used it first, or at the same time as another run used the other one.
            assert min(places(logs, before)) <= min(places(logs, path))


def places(logs, path):
    for log in logs:
        time = 0
        for file in log.files:
            time = max(time, file.time)
            if file.path == path:
                yield time


@given(small_logs)
def test_merged_when_merged_again_with_its_parts_then_unchanged(logs):
    found = AccessLog.merged(logs)
    assert AccessLog.merged([found]) == found
    for log in logs:
        assert AccessLog.merged([found, log]).files == found.files


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_RANGES"])
def test_merged_when_a_limit_is_reached_then_the_earliest_files_are_kept(monkeypatch, limit):
    monkeypatch.setattr(access_log, limit, 3)
    one = log_of(*((at, f"a{at}", ((0, 1),)) for at in range(3)))
    two = log_of(*((at + 0.5, f"b{at}", ((0, 1),)) for at in range(3)))
    assert [file.path for file in AccessLog.merged([one, two]).files] == ["a0", "b0", "a1"]


def test_merged_when_ranges_are_too_many_then_the_closest_are_joined():
    one = log_of((0, "a", tuple((at * 100, at * 100 + 10) for at in range(1000))))
    two = log_of((0, "a", tuple((at * 100 + 50, at * 100 + 90) for at in range(1000))))
    (file,) = AccessLog.merged([one, two]).files
    assert len(file.ranges) <= access_log.MAX_FILE_RANGES
    for start, end in (*one.files[0].ranges, *two.files[0].ranges):
        assert any(low <= start and end <= high for low, high in file.ranges)
    assert AccessLog.from_bytes(AccessLog((file,)).to_bytes()).files == (file,)

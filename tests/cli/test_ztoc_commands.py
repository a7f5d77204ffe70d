from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile

import pytest

from support.cli_in_process import tocsin
from support.cli_inputs import BINARY
from tocsin import Ztoc, build_ztoc


def identity(path):
    data = path.read_bytes()
    return f"sha256:{hashlib.sha256(data).hexdigest()} {len(data)}\n"


def test_build_prints_digest_and_size_and_writes_the_blob(files, tmp_path):
    target = tmp_path / "z"
    done = tocsin("ztoc", "build", files.layer, "--span-size", "1MiB", "-o", target)
    assert done.stdout.decode() == identity(target) == identity(files.ztoc)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["z"]


def test_build_without_output_writes_nothing(files, tmp_path):
    done = tocsin("ztoc", "build", files.layer, "--span-size", "1048576", "-q", cwd=tmp_path)
    assert done.stdout.decode() == identity(files.ztoc)
    assert done.stderr == b""
    assert list(tmp_path.iterdir()) == []


def test_build_from_stdin_to_stdout(files):
    layer = files.layer.read_bytes()
    done = tocsin("ztoc", "build", "-", "--span-size", "1m", "-o", "-", stdin=layer)
    assert (done.stdout, done.stderr) == (files.ztoc.read_bytes(), b"")


def test_build_json_has_stable_keys(files, tmp_path):
    done = tocsin("ztoc", "build", files.layer, "--json", "-o", tmp_path / "z")
    document = json.loads(done.stdout)
    assert document.keys() == {
        "layer",
        "ztoc",
        "hazards",
        "dropped_checkpoint_count",
        "output",
        "seconds",
    }
    data = files.layer.read_bytes()
    layer = document["layer"]
    assert layer["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer["size"] == len(data)
    assert layer["format"] == "gzip"
    assert layer["uncompressed_size"] == len(gzip.decompress(data))
    assert layer["needs_xattrs"] is False
    assert (
        document["ztoc"]["digest"]
        == f"sha256:{hashlib.sha256((tmp_path / 'z').read_bytes()).hexdigest()}"
    )
    assert document["output"] == str(tmp_path / "z")
    assert document["hazards"] == []


def test_build_replaces_a_file_and_follows_a_symbolic_link(files, tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    assert tocsin("ztoc", "build", files.layer, "-o", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert Ztoc.from_bytes((tmp_path / "real").read_bytes()).span_size == 4 << 20


def test_build_of_a_plain_tar(files, tmp_path):
    plain = tmp_path / "layer.tar"
    plain.write_bytes(gzip.decompress(files.layer.read_bytes()))
    document = json.loads(tocsin("ztoc", "build", plain, "--json").stdout)
    assert document["layer"]["format"] == "uncompressed"


def test_build_warns_about_unreadable_entries_and_dropped_checkpoints(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.LNKTYPE, "not/there"
        tar.addfile(link)
    layer = tmp_path / "layer.tar.gz"
    layer.write_bytes(gzip.compress(b"", mtime=0) + gzip.compress(out.getvalue(), mtime=0))
    done = tocsin("ztoc", "build", layer)
    assert done.returncode == 0
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("warning: soci-snapshotter cannot read link: hard link whose target")
    assert second.startswith("warning: removed 1 checkpoint")
    document = json.loads(tocsin("ztoc", "build", layer, "--json", "-q").stdout)
    assert document["dropped_checkpoint_count"] == 1
    assert document["hazards"] == [
        {
            "entry_index": 0,
            "name": "link",
            "kind": "link-target-not-earlier",
            "reason": "hard link whose target is not an earlier entry",
        }
    ]
    identical = json.loads(tocsin("ztoc", "build", layer, "--json", "--reference-identical").stdout)
    assert identical["dropped_checkpoint_count"] == 0
    assert identical["ztoc"]["span_count"] == document["ztoc"]["span_count"] + 1


def test_info_prints_readable_facts(files):
    done = tocsin("ztoc", "info", files.ztoc)
    facts = dict(line.split("  ", 1) for line in done.stdout.decode().splitlines())
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    assert facts["digest"] == identity(files.ztoc).split()[0]
    assert facts["layer"] == "3.0 MiB gzip, 3.0 MiB uncompressed"
    assert facts["entries"] == (
        "10: 5 files, 1 directory, 1 symbolic link, 1 hard link, 1 character device, 1 pipe"
    )
    assert facts["spread"] == "1 file in more than one span"
    assert (done.returncode, done.stderr) == (0, b"")


def test_info_reads_stdin_and_prints_json(files):
    done = tocsin("ztoc", "info", "-", "--json", stdin=files.ztoc.read_bytes())
    document = json.loads(done.stdout)
    assert document.keys() == {
        "digest",
        "size",
        "version",
        "build_tool_identifier",
        "compression_algorithm",
        "compressed_archive_size",
        "uncompressed_archive_size",
        "span_size",
        "span_count",
        "entry_count",
        "type_counts",
        "multi_span_file_count",
        "largest_span_size",
        "reader_refusals",
    }
    assert document["span_count"] == 3
    assert document["type_counts"]["reg"] == 5
    assert document["reader_refusals"] == []


def test_ls_lists_names_in_order_with_escapes(files):
    done = tocsin("ztoc", "ls", files.ztoc)
    assert done.stdout == (
        b"usr/\nusr/bin/app\nusr/bin/same\nusr/bin/short\ndev/null\nrun/pipe\netc/os-release\n"
        b"empty\nodd/new\\nline\\x1b[31m\\\\\nodd/caf\xe9\n"
    )


def test_ls_null_gives_raw_names(files):
    names = tocsin("ztoc", "ls", "-0", files.ztoc).stdout.split(b"\0")
    assert names[-3:] == [b"odd/new\nline\x1b[31m\\", b"odd/caf\xe9", b""]


def test_ls_long_looks_like_tar_output(files):
    lines = tocsin("ztoc", "ls", "-l", files.ztoc).stdout.split(b"\n")
    assert lines[:7] == [
        b"drwxr-xr-x 0/0              0 2023-11-14 22:13 usr/",
        b"-rwsr-xr-x root/staff 3145728 2023-11-14 22:13 usr/bin/app",
        b"hrwsr-xr-x root/staff       0 2023-11-14 22:13 usr/bin/same link to usr/bin/app",
        b"lrwxrwxrwx 0/0              0 2023-11-14 22:13 usr/bin/short -> app",
        b"crw-r--r-- 0/0            1,3 2023-11-14 22:13 dev/null",
        b"prw-r--r-- 0/0              0 2023-11-14 22:13 run/pipe",
        b"-rw-r--r-- 10/20           10 2023-11-14 22:13 etc/os-release",
    ]


def test_ls_of_paths_lists_entries_at_or_below_them(files):
    done = tocsin("ztoc", "ls", files.ztoc, "/etc", "./usr/bin/app")
    assert done.stdout == b"usr/bin/app\netc/os-release\n"
    missing = tocsin("ztoc", "ls", files.ztoc, "us")
    assert (missing.returncode, missing.stdout) == (3, b"")
    assert missing.stderr.decode().splitlines() == [
        "error: us: no such entry in the zTOC",
        "hint: List the entries of the layer with tocsin ztoc ls ZTOC.",
    ]


def test_ls_json_has_stable_keys_and_any_name(files):
    document = json.loads(tocsin("ztoc", "ls", files.ztoc, "--json").stdout)
    assert document.keys() == {"ztoc", "entries"}
    app, odd = document["entries"][1], document["entries"][-1]
    assert app.keys() == {
        "name",
        "type",
        "linkname",
        "uncompressed_offset",
        "uncompressed_size",
        "first_span",
        "end_span",
        "mode",
        "uid",
        "gid",
        "uname",
        "gname",
        "mod_time",
        "devmajor",
        "devminor",
        "pax_records",
    }
    assert (app["first_span"], app["end_span"]) == (0, 3)
    assert odd["name"] == "odd/caf\udce9"


@pytest.mark.parametrize("path", ["usr/bin/app", "/usr/bin/../bin/app", "usr/bin/same"])
def test_cat_is_binary_safe_and_follows_hard_links(files, path):
    done = tocsin("ztoc", "cat", files.ztoc, files.layer, path)
    assert done.stdout == BINARY
    assert (done.returncode, done.stderr) == (0, b"")


def test_cat_of_an_empty_file_is_empty(files):
    done = tocsin("ztoc", "cat", files.ztoc, files.layer, "empty")
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "nothing",
            "error: nothing: no such entry in the zTOC\n"
            "hint: List the entries of the layer with tocsin ztoc ls ZTOC.\n",
        ),
        ("usr", "error: usr: not a regular file (found dir)\n"),
    ],
)
def test_cat_of_a_path_that_is_not_a_file_is_not_found(files, path, message):
    done = tocsin("ztoc", "cat", files.ztoc, files.layer, path)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (3, b"", message)


def test_extract_copies_the_file(files, tmp_path):
    done = tocsin(
        "ztoc", "extract", files.ztoc, files.layer, "usr/bin/app", "-o", "app", cwd=tmp_path
    )
    assert (tmp_path / "app").read_bytes() == BINARY
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    quiet = tocsin(
        "ztoc", "extract", files.ztoc, files.layer, "etc/os-release", "-o", "-", cwd=tmp_path
    )
    assert (quiet.stdout, quiet.stderr) == (b"NAME=test\n", b"")


def test_extract_json(files, tmp_path):
    done = tocsin(
        "ztoc", "extract", files.ztoc, files.layer, "etc/os-release", "-o", tmp_path / "o", "--json"
    )
    assert json.loads(done.stdout) == {
        "path": "etc/os-release",
        "output": str(tmp_path / "o"),
        "size": 10,
        "span_count": 1,
    }


def test_a_file_is_read_without_the_rest_of_the_layer(files, tmp_path):
    layer = bytearray(files.layer.read_bytes())
    layer[: len(layer) // 2] = bytes(len(layer) // 2)
    broken = tmp_path / "layer"
    broken.write_bytes(layer)
    assert tocsin("ztoc", "cat", files.ztoc, broken, "etc/os-release").stdout == b"NAME=test\n"


def test_extract_from_a_changed_layer_fails_and_leaves_nothing(files, tmp_path):
    layer = bytearray(files.layer.read_bytes())
    layer[len(layer) // 2] ^= 1
    broken, target = tmp_path / "layer", tmp_path / "out"
    broken.write_bytes(layer)
    done = tocsin("ztoc", "extract", files.ztoc, broken, "usr/bin/app", "-o", target)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {broken}: span 1 digest mismatch ".encode())
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]
    cat = tocsin("ztoc", "cat", files.ztoc, broken, "usr/bin/app")
    assert cat.returncode == 1
    assert BINARY.startswith(cat.stdout)  # only verified bytes


def test_short_layer_is_refused(files, tmp_path):
    short = tmp_path / "layer"
    short.write_bytes(files.layer.read_bytes()[:1000])
    done = tocsin("ztoc", "cat", files.ztoc, short, "usr/bin/app")
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("command", [("info",), ("ls",), ("ls", "-l")], ids=" ".join)
def test_damaged_ztoc_is_a_one_line_error_and_code_1(files, tmp_path, command):
    damaged = tmp_path / "z"
    damaged.write_bytes(files.ztoc.read_bytes()[:-1000])
    done = tocsin("ztoc", *command, damaged)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ztoc: ")
    assert line.endswith(f" · {damaged}")
    assert (done.returncode, done.stdout) == (1, b"")


def test_layer_instead_of_a_ztoc_is_recognized(files):
    done = tocsin("ztoc", "cat", files.layer, files.ztoc, "empty")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[1] == (
        "hint: Build the zTOC of this layer with tocsin ztoc build."
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_bad_layer_is_named_and_nothing_is_written(files, tmp_path, threads):
    layer, target = tmp_path / "layer", tmp_path / "z"
    layer.write_bytes(files.layer.read_bytes()[:-5])
    done = tocsin("ztoc", "build", layer, "--threads", threads, "-o", target)
    line, hint = done.stderr.decode().splitlines()
    assert line.startswith("error: gzip: layer ends inside a gzip trailer, at ")
    assert line.endswith(f" · {layer}")
    assert hint == "hint: Download or build the layer again: it is damaged or truncated."
    assert done.returncode == 1
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_spans_of_the_command_and_the_library_are_the_same(files):
    blob = build_ztoc(files.layer, span_size=0).to_bytes()
    done = tocsin("ztoc", "build", files.layer, "--span-size", "0", "-o", "-", "-q")
    assert done.stdout == blob


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_build_with_any_number_of_threads_makes_the_same_blob(files, tmp_path, threads):
    target = tmp_path / "z"
    build = ("ztoc", "build", files.layer, "--span-size", "1MiB", "-o", target)
    done = tocsin(*build, "--threads", threads)
    assert done.stdout.decode() == identity(target) == identity(files.ztoc)
    done = tocsin(*build, TOCSIN_THREADS=str(threads))
    assert done.stdout.decode() == identity(target) == identity(files.ztoc)


def test_build_when_tocsin_threads_is_not_a_number_then_wrong_usage(files):
    done = tocsin("ztoc", "build", files.layer, TOCSIN_THREADS="many")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: invalid value for '--threads'")

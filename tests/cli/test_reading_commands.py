"""Commands that read files of images, in layouts and in a registry in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.cli_in_process import tocsin
from support.cli_inputs import BINARY, put_endless_image, rich_tar
from support.cli_process import on_terminal, start
from support.cli_signals import at_work, stopped
from support.images import image_of
from support.registry import Registry
from support.registry_client import store_of
from support.tarmaker import entry, tar
from tocsin.model.media_types import OCI_LAYER
from tocsin.stores.layout import OciLayout

UPPER = tar(
    entry("etc/os-release", b"NAME=upper\n", mtime=1_700_000_000),
    entry("run/.wh.pipe"),
    entry("usr/lib/", type=tarfile.DIRTYPE, mode=0o755),
    entry("etc/absolute", type=tarfile.SYMTYPE, linkname="/etc/os-release"),
    entry("etc/escape", type=tarfile.SYMTYPE, linkname="../../../../etc/os-release"),
    entry("etc/dangling", type=tarfile.SYMTYPE, linkname="/nowhere"),
)
IMAGE = image_of((rich_tar(), OCI_LAYER), (UPPER, OCI_LAYER))
LAYERS = [str(layer.digest) for layer in IMAGE.layer_descriptors]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reading") / "layout"
    with OciLayout(directory, write=True) as store:
        IMAGE.put(store, tag="app")
    return f"oci:{directory}:app"


LIST_FILES = "hint: List the image's files with tocsin ls IMAGE /DIRECTORY or tocsin find IMAGE."


def run(*arguments, code=0, **how):
    done = tocsin(*arguments, **how)
    assert done.returncode == code, done.stderr.decode()
    return done


def words(done):
    """Return the lines of stderr without the warning about layers that were read in full."""
    return [line for line in done.stderr.decode().splitlines() if "no ztoc" not in line]


# ls


def test_ls_lists_names_of_all_layers_without_hidden_files(image):
    assert run("ls", image).stdout.split() == [b"dev", b"empty", b"etc", b"odd", b"run", b"usr"]
    assert run("ls", image, "/run").stdout == b""
    assert run("ls", f"{image}:/usr").stdout == b"bin\nlib\n"
    assert run("ls", image, "etc/os-release").stdout == b"os-release\n"


def test_ls_long_looks_like_the_output_of_ls(image):
    lines = run("ls", "-l", image, "/usr/bin").stdout.decode().splitlines()
    assert lines == [
        "-rwsr-xr-x root/staff 3145728 2023-11-14 22:13 app",
        "-rwsr-xr-x root/staff 3145728 2023-11-14 22:13 same",
        "lrwxrwxrwx 0/0              3 2023-11-14 22:13 short -> app",
    ]
    human = run("ls", "-l", "--human", image, "/usr/bin/app").stdout.decode()
    assert human == "-rwsr-xr-x root/staff 3.0 MiB 2023-11-14 22:13 app\n"
    assert b"crw-r--r-- 0/0 1,3 2023-11-14 22:13 null" in run("ls", "-l", image, "/dev").stdout


def test_ls_escapes_odd_names_or_ends_them_with_nul(image):
    assert run("ls", image, "/odd").stdout == b"caf\xe9\nnew\\nline\\x1b[31m\\\\\n"
    assert run("ls", "-0", image, "/odd").stdout == b"caf\xe9\0new\nline\x1b[31m\\\0"


def test_ls_recursive_prints_full_paths(image):
    assert run("ls", "-R", image, "/usr").stdout.decode().splitlines() == [
        "/usr/bin",
        "/usr/bin/app",
        "/usr/bin/same",
        "/usr/bin/short",
        "/usr/lib",
    ]


def test_ls_recursive_escapes_odd_names_or_ends_them_with_nul(image):
    lines = run("ls", "-R", image, "/odd").stdout
    assert lines == b"/odd/caf\xe9\n/odd/new\\nline\\x1b[31m\\\\\n"
    names = run("ls", "-R", "-0", image, "/odd").stdout
    assert names == b"/odd/caf\xe9\0/odd/new\nline\x1b[31m\\\0"


def test_ls_recursive_of_a_file_prints_the_file(image):
    assert run("ls", "-R", image, "/etc/os-release").stdout == b"/etc/os-release\n"


@pytest.fixture(scope="module")
def odd_image(tmp_path_factory):
    """An image with a dangling hard link, and names that Linux cannot create."""
    layer = tar(
        entry("a"),
        entry("gone", type=tarfile.LNKTYPE, linkname="missing"),
        *(entry("n/" * count + "f") for count in (2050, 3000, 2050)),
        entry("target", type=tarfile.SYMTYPE, linkname="t" * 5000),
    )
    directory = tmp_path_factory.mktemp("odd") / "layout"
    with OciLayout(directory, write=True) as store:
        image_of((layer, OCI_LAYER)).put(store, tag="t")
    return f"oci:{directory}:t"


def test_ls_when_entries_cannot_be_created_then_one_warning_per_reason(odd_image):
    done = run("ls", "-R", odd_image)
    assert done.stdout == b"/a\n/gone\n"
    assert words(done) == [
        f'warning: left out 3 entries, the first "{"n/" * 50}\N{HORIZONTAL ELLIPSIS}" in layer 1: '
        "the path has more than 4,095 bytes, the limit of Linux",
        "warning: left out 1 entry, target in layer 1: the link target has more than 4,095 bytes, "
        "the limit of Linux",
    ]
    assert run("ls", "--quiet", odd_image).stderr == b""


def test_cp_when_linux_could_not_create_entries_then_exit_code_1(odd_image, tmp_path):
    done = run("cp", f"{odd_image}:/", tmp_path / "out", code=1)
    assert words(done)[-1] == f"error: {tmp_path}/out: 5 entries were not extracted"
    assert (tmp_path / "out/a").exists()


def test_hard_link_without_a_target_is_listed_as_a_hard_link(odd_image):
    assert run("ls", "-l", odd_image).stdout.splitlines()[1].startswith(b"?")
    assert b"hard link, target missing" in run("stat", odd_image, "/gone").stdout
    found = json.loads(run("find", "--json", "-name", "gone", odd_image).stdout)
    assert found["entries"][0]["type"] == "hardlink"


def test_ls_json_has_everything(image):
    document = json.loads(run("ls", "--json", image, "/usr/bin").stdout)
    assert (document["image"], document["path"]) == (image, "/usr/bin")
    app, same, short = document["entries"]
    assert app == {
        "path": "/usr/bin/app",
        "type": "file",
        "size": len(BINARY),
        "mode": 0o4755,
        "uid": 0,
        "gid": 0,
        "uname": "root",
        "gname": "staff",
        "mtime_ns": 1_700_000_000 * 10**9,
        "linkname": "",
        "devmajor": 0,
        "devminor": 0,
        "xattrs": {},
        "inode": same["inode"],
        "layer": LAYERS[0],
    }
    assert (short["type"], short["linkname"]) == ("symlink", "app")


# cat


def test_cat_writes_the_bytes_of_each_file(image):
    assert run("cat", image, "/usr/bin/app").stdout == BINARY
    both = run("cat", f"{image}:/etc/absolute", "/etc/escape", "/empty")
    assert both.stdout == b"NAME=upper\n" * 2


def test_cat_writes_nothing_when_one_path_is_missing(image):
    done = run("cat", image, "/etc/os-release", "/nope", code=3)
    assert done.stdout == b""
    assert words(done) == ["error: /nope: no such file or directory", LIST_FILES]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/etc", 1, "/etc: is a directory"),
        ("/dev/null", 1, "/dev/null: not a regular file (found char)"),
        ("/etc/dangling", 3, "/etc/dangling: no such file or directory"),
        ("/etc/os-release/x", 3, "/etc/os-release/x: /etc/os-release is not a directory"),
    ],
)
def test_cat_of_a_path_that_is_not_a_file_reports_the_type(image, path, code, message):
    hint = [LIST_FILES] if code == 3 else []
    assert words(run("cat", image, path, code=code)) == [f"error: {message}", *hint]


def test_cat_when_the_reader_closes_the_pipe_then_silent_success(image):
    read, write = os.pipe()
    with start(
        "cat", "-q", image, "/usr/bin/app", stdout=write, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        os.close(write)
        assert os.read(read, 10) == BINARY[:10]
        os.close(read)
        assert process.stderr.read() == b""
    assert process.returncode == 0


# stat


def test_stat_shows_links_unless_dereference_is_set(image):
    assert run("stat", image, "/etc/absolute").stdout.decode().splitlines() == [
        "path      /etc/absolute",
        "type      symbolic link",
        "mode      0644 lrw-r--r--",
        "owner     0/0",
        "modified  1970-01-01 00:00:00 UTC",
        "target    /etc/os-release",
        f"layer     2 of 2 {LAYERS[1]}",
    ]
    followed = run("stat", "-L", image, "/etc/absolute").stdout.decode()
    assert followed.splitlines()[:3] == [
        "path      /etc/os-release",
        "type      file",
        "size      11 B",
    ]


def test_stat_json_names_the_layer_of_each_file(image):
    files = json.loads(run("stat", "--json", image, "/usr/bin/app", "/etc").stdout)["files"]
    assert [(file["path"], file["type"]) for file in files] == [
        ("/usr/bin/app", "file"),
        ("/etc", "dir"),
    ]
    assert files[0]["layer"] == LAYERS[0]


# find


@pytest.mark.parametrize(
    ("tests", "found"),
    [
        (("-name", "os-*"), "/etc/os-release\n"),
        (("--name", "*s*", "--type", "l"), "/etc/absolute\n/etc/escape\n/usr/bin/short\n"),
        (("-type", "c"), "/dev/null\n"),
        (("-size", "+1M"), "/usr/bin/app\n/usr/bin/same\n"),
        (("-size", "-1"), "/empty\n"),
        (("-size", "11"), "/etc/os-release\n"),
        (("-name", "nothing"), ""),
    ],
)
def test_find_prints_files_that_match_all_conditions(image, tests, found):
    assert run("find", image, *tests).stdout.decode() == found


def test_find_below_a_path_and_as_json(image):
    assert run("find", image, "/usr", "-type", "d").stdout == b"/usr\n/usr/bin\n/usr/lib\n"
    document = json.loads(run("find", f"{image}:/usr", "-type", "d", "--json").stdout)
    assert [each["path"] for each in document["entries"]] == ["/usr", "/usr/bin", "/usr/lib"]


# cp


def test_cp_of_a_file_keeps_its_name_or_uses_the_given_one(image, tmp_path):
    run("cp", f"{image}:/etc/absolute", tmp_path)
    run("cp", image, "/etc/os-release", tmp_path / "other")
    for name in ("absolute", "other"):
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == b"NAME=upper\n"
    run("cp", "-P", image, "/etc/absolute", tmp_path / "link")
    assert (tmp_path / "link").readlink() == Path("/etc/os-release")


def test_cp_of_a_tree_reports_what_was_copied_and_skipped(image, tmp_path):
    target = tmp_path / "root"
    done = run("cp", f"{image}:/", target)
    (warning,) = words(done)
    assert warning.startswith("warning: /dev/null was skipped: ")
    assert done.stdout == b""
    assert (target / "usr/bin/app").read_bytes() == BINARY
    assert (target / "usr/bin/same").samefile(target / "usr/bin/app")
    assert (target / "odd/new\nline\x1b[31m\\").read_bytes() == b"s"
    again = json.loads(run("cp", f"{image}:/usr", target / "usr", "--json").stdout)
    assert (again["files"], again["unchanged"], again["path"]) == (0, 3, "/usr")


@pytest.fixture
def odd(tmp_path):
    """An image with entries that cannot be created, and an attribute that is not preserved."""
    layer = tar(
        entry("d/" + "n" * 300, b"1"),
        entry("h", type=tarfile.LNKTYPE, linkname="gone"),
        entry("good/f", b"1", pax={"SCHILY.xattr.trusted.a": "1"}),
    )
    with OciLayout(tmp_path / "layout", write=True) as store:
        image_of((layer, OCI_LAYER)).put(store, tag="app")
    return f"oci:{tmp_path / 'layout'}:app"


def test_cp_when_entries_are_invalid_then_the_rest_and_exit_code_1(odd, tmp_path):
    done = run("cp", f"{odd}:/", tmp_path / "out", code=1)
    assert (tmp_path / "out/good/f").read_bytes() == b"1"
    lines = words(done)
    assert lines[:3] == [
        "warning: /h was not extracted: hard link to gone, which is not in the image",
        f"warning: /d/{'n' * 300} was not extracted: file name too long (found 300 bytes, expected"
        " at most 255)",
        "warning: extended attribute trusted.a not preserved (trusted attributes are never set):"
        " /good/f",
    ]
    assert lines[-1] == f"error: {tmp_path}/out: 2 entries were not extracted"
    quiet = run("cp", f"{odd}:/", tmp_path / "quiet", "-q", code=1)
    assert words(quiet) == [f"error: {tmp_path}/quiet: 2 entries were not extracted"]
    document = json.loads(run("cp", f"{odd}:/", tmp_path / "json", "--json", code=1).stdout)
    assert [each["path"] for each in document["failed"]] == ["/h", f"/d/{'n' * 300}"]
    assert document["skipped"] == []


def test_cp_when_only_metadata_is_not_preserved_then_exit_code_0(odd, tmp_path):
    done = run("cp", f"{odd}:/good", tmp_path / "out")
    assert words(done)[0].startswith("warning: extended attribute trusted.a not preserved")


def test_cp_to_stdout_writes_the_bytes(image):
    assert run("cp", f"{image}:/etc/os-release", "-").stdout == b"NAME=upper\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("cp", "IMAGE", "x"),
            "error: wrong number of paths (found 0, expected IMAGE:/PATH DEST or IMAGE PATH DEST)",
        ),
        (("cp", "IMAGE:/a", "/b", "x"), "error: wrong number of paths (found 2, expected"),
        (("cp", "IMAGE:/a", "-", "--json"), "error: --json and DEST - both write to stdout"),
        (("cat", "IMAGE"), "error: missing argument 'PATH'"),
        (("stat", "IMAGE"), "error: missing argument 'PATH'"),
        (("ls", "IMAGE:/a", "/b"), "error: too many paths (found /a and /b, expected one)"),
        (("ls", "-0", "-l", "IMAGE"), "error: --null cannot be combined with"),
        (("ls", "IMAGE", "--index", "x"), "error: invalid value for '--index'"),
        (("find", "IMAGE", "-size", "+-1"), "error: invalid value for '-size' / '--size'"),
        (("ls", "oci:"), "error: invalid value for 'IMAGE'"),
    ],
)
def test_wrong_usage_is_reported(image, arguments, message):
    done = tocsin(*(argument.replace("IMAGE", image) for argument in arguments))
    assert done.returncode == 2
    assert done.stderr.decode().startswith(message)


# How the image is read


def test_reading_layers_in_full_is_a_warning_unless_quiet(image):
    noted = run("ls", image).stderr.decode()
    assert noted == "warning: 2 small layers have no ztoc: 3.0 MiB were read\n"
    assert run("ls", image, "-q").stderr == b""


def test_layers_without_a_ztoc_are_an_error_with_no_index(image):
    done = run("ls", image, "--no-index", code=4)
    assert "has no ztoc" in done.stderr.decode()


def test_progress_bars_of_cp_are_cleared(image, tmp_path):
    shown, code = on_terminal("cp", f"{image}:/usr", tmp_path / "usr", columns=100)
    assert code == 0
    assert b"\x1b[2K" in shown  # bars were cleared
    assert shown.rstrip().splitlines()[-1].startswith(b"1 file, 3 directories, 2 links")


def test_reading_a_large_layer_in_full_shows_a_progress_bar(tmp_path):
    layer = tar(entry("big", bytes(9 << 20)))
    with OciLayout(tmp_path / "layout", write=True) as store:
        image_of((layer, OCI_LAYER)).put(store, tag="app")
    shown, code = on_terminal("ls", f"oci:{tmp_path / 'layout'}:app")
    assert code == 0
    assert b"sha256:" in shown.partition(b"big")[0]
    assert b"\x1b[2K" in shown
    quiet, _ = on_terminal("ls", "-q", f"oci:{tmp_path / 'layout'}:app")
    assert quiet == b"big\r\n"


@pytest.fixture
def remote():
    with Registry() as registry:
        with store_of(registry) as store:
            IMAGE.put(store, "1")
        name = f"{registry.host}/team/app:1"
        run("create", name, "--min-layer-size", "0", "--span-size", "1MiB")
        registry.requests.clear()
        yield registry, name


def layer_bytes(registry):
    return sum(request.sent for request in registry.asked("GET", f"/blobs/{LAYERS[0]}"))


def test_registry_image_is_read_through_its_index_and_cached(remote, tmp_path):
    registry, name = remote
    kept = {"TOCSIN_CACHE_DIR": str(tmp_path / "cache")}
    listed = run("ls", f"{name}:/usr", **kept)
    assert (listed.stdout, listed.stderr) == (b"bin\nlib\n", b"")
    assert layer_bytes(registry) == 0
    assert run("cat", f"{name}:/empty", **kept).stdout == b""
    assert 0 < layer_bytes(registry) < len(BINARY) * 3 // 4
    registry.requests.clear()
    run("cat", f"{name}:/empty", **kept)
    assert layer_bytes(registry) == 0


@pytest.mark.parametrize("way", ["option", "environment"])
def test_cache_size_when_given_then_the_directory_stays_below_it(image, tmp_path, way):
    option = ["--cache-size", "100KiB"] if way == "option" else []
    changes = {"TOCSIN_CACHE_SIZE": "100KiB"} if way == "environment" else {}
    run("cp", f"{image}:/", tmp_path / "x", "--cache-dir", tmp_path / "c", *option, **changes)
    sizes = [path.stat().st_size for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert sum(sizes) <= 100 << 10


def test_cache_dir_when_it_contains_a_pipe_then_a_warning_and_the_data(remote, tmp_path):
    _, name = remote
    cached = ("--cache-dir", tmp_path / "c")
    run("cat", name, "/etc/os-release", *cached)
    for path in [path for path in (tmp_path / "c").rglob("*") if path.is_file()]:
        path.unlink()
        os.mkfifo(path)
    done = run("cat", name, "/etc/os-release", *cached)
    assert done.stdout == b"NAME=upper\n"
    (note,) = done.stderr.decode().splitlines()
    assert note.endswith("is ignored and fetched again: not a regular file")


def test_registry_that_requires_login_gets_the_credentials(remote):
    registry, name = remote
    registry.auth = "token"
    login = ("--username", "alice", "--password-stdin")
    assert run("cat", name, "/etc/os-release", *login, stdin=b"secret").stdout == b"NAME=upper\n"
    run("cat", name, "/etc/os-release", code=6)


def test_wrong_bytes_are_never_written(remote, tmp_path):
    registry, name = remote
    for digest in LAYERS:
        registry.fault("GET", f"/blobs/{digest}", times=99, corrupt=True)
    done = run("cat", name, "/odd/caf\udce9", code=1)  # the last span of its layer
    assert done.stdout == b""
    assert "span" in done.stderr.decode()
    run("cp", f"{name}:/odd/caf\udce9", tmp_path / "x", code=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_indexing_on_the_fly_can_be_interrupted(tmp_path, number):
    put_endless_image(tmp_path / "layout", 16)
    reference = f"oci:{tmp_path / 'layout'}:app"
    with start("ls", reference, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        at_work(process)
        returned, stderr = stopped(process, number)
    assert returned == 128 + number
    assert stderr.splitlines()[-1] in ("interrupted", "terminated")


# Threads


@pytest.mark.parametrize("threads", ["1", "3"])
def test_layers_without_ztoc_are_read_with_any_number_of_threads(image, threads):
    done = run("cat", image, "/etc/os-release", "--threads", threads)
    assert done.stdout == b"NAME=upper\n"
    run("cat", image, "/etc/os-release", "--threads", "0", code=2)

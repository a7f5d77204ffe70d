"""``tocsin fetch``: the table, the cache, and errors."""

import json
import sys

import pytest

import tocsin as api
from support.cli_in_process import tocsin
from support.cli_inputs import BINARY, put_image
from support.registry import Registry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts exist only on Linux")


@pytest.fixture
def image(tmp_path):
    """An image with a seek table."""
    put_image(tmp_path / "layout")
    name = f"oci:{tmp_path / 'layout'}:app"
    api.create(name, options=api.IndexingOptions(seek_only=True))
    return name


def lines(done):
    assert (done.returncode, done.stderr) == (0, b"")
    return [" ".join(line.split()) for line in done.stdout.decode().splitlines() if line]


def test_fetch_when_done_then_layers_and_total_are_printed(image, tmp_path):
    cache = tmp_path / "cache"
    table = lines(tocsin("fetch", image, "--cache-dir", cache))
    assert table[0] == "LAYER SIZE INDEX ON DISK"
    assert [row.split()[3:5] for row in table[1:3]] == [["seek", "table"]] * 2
    assert table[3].startswith("fetched 3.0 MiB of 3.0 MiB in ")
    assert table[3].endswith(f" → {cache}")
    found = [path.read_bytes() for path in (cache / "inflated").glob("*/data")]
    assert any(BINARY in data for data in found)


def test_fetch_when_repeated_then_it_fetches_nothing(image, tmp_path):
    arguments = ("fetch", image, "--cache-dir", tmp_path / "cache")
    lines(tocsin(*arguments))
    assert "fetched 0 B of 3.0 MiB in " in lines(tocsin(*arguments))[-1]


def test_fetch_when_no_directory_is_given_then_that_of_the_user(image, tmp_path):
    done = tocsin("fetch", image, "--json", XDG_CACHE_HOME=str(tmp_path))
    assert json.loads(done.stdout)["cache_dir"] == str(tmp_path / "tocsin")
    assert (tmp_path / "tocsin").stat().st_mode & 0o777 == 0o700


def test_fetch_when_the_image_has_no_index_then_warned(tmp_path):
    put_image(tmp_path / "layout")
    done = tocsin("fetch", f"oci:{tmp_path / 'layout'}:app", "--cache-dir", tmp_path / "cache")
    assert done.returncode == 0
    assert b"warning: the image has no index that can be used" in done.stderr


def test_fetch_when_it_is_cached_then_works_without_the_registry(image, tmp_path):
    arguments = ("--cache-dir", tmp_path / "cache")
    with Registry() as registry:
        name = f"{registry.host}/team/app:1"
        api.copy(image, name)
        lines(tocsin("fetch", name, *arguments))
    # Twice: the first failure must not replace what the registry answered before.
    tocsin("fetch", name, *arguments)
    done = tocsin("fetch", name, *arguments, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["fetches"] == 0


def test_fetch_when_the_registry_is_away_then_exit_code_6(tmp_path):
    with Registry() as registry:
        name = f"{registry.host}/team/app:1"
    done = tocsin("fetch", name, "--cache-dir", tmp_path / "cache")
    assert (done.returncode, done.stdout) == (6, b"")


def test_fetch_when_the_cache_cannot_be_used_then_exit_code_5(image, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    done = tocsin("fetch", image, "--cache-dir", tmp_path / "file" / "x")
    assert done.returncode == 5
    assert b"the cache cannot hold the image" in done.stderr

"""The code blocks of docs/howto.md, run exactly as written."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli_process import TIMEOUT, TOCSIN, environment
from support.images import make_image
from support.tools import missing
from tocsin.stores.layout import OciLayout

HOWTO = Path(__file__).parents[1] / "docs" / "howto.md"
BLOCKS = re.findall(r"^## ([^\n]*)|^```(sh|python)\n(.*?)^```", HOWTO.read_text(), re.M | re.S)
STATUS = """Package: {first}
Version: {version}
Description: does a thing
 and: more

Package: same
Version: 1
"""


def blocks(section):
    """Return (language, code) of each block below a heading."""
    found, here = [], False
    for heading, language, code in BLOCKS:
        here = heading == section if heading else here
        if here and not heading:
            found.append((language, code))
    return found


def table():
    try:
        import fsspec  # noqa: F401, PLC0415
        import pandas as pd  # noqa: PLC0415
        import pyarrow  # noqa: F401, PLC0415
    except ImportError as error:
        missing(f"{error.name} is not installed")
    out = io.BytesIO()
    pd.DataFrame({"name": ["left", "right"], "count": [20, 22]}).to_parquet(out)
    return out.getvalue()


def put(directory, tag, files):
    with OciLayout(directory, write=True) as store:
        make_image(files).put(store, tag)
    return f"oci:{directory}:{tag}"


def run(language, code, directory, **variables):
    command = ["/bin/sh", "-euc"] if language == "sh" else [sys.executable, "-c"]
    done = subprocess.run(  # noqa: S603 (commands from our own page)
        [*command, code],
        env=environment(PATH=f"{Path(TOCSIN).parent}:/usr/bin:/bin", **variables),
        cwd=directory,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


BASE = {
    "etc/os-release": b"ID=test\nVERSION_ID=12\n",
    "etc/app.conf": b"x=1\n",
    "var/lib/dpkg/status": STATUS.format(first="changed", version="1").encode(),
}


def test_sections_when_listed_then_all_are_tested():
    assert [heading for heading, _, _ in BLOCKS if heading] == [
        "Read a file in a script",
        "Compare the packages of two images",
        "Open a table inside an image",
    ]


def test_reading_a_file_when_run_then_prints_its_content(tmp_path):
    image = put(tmp_path / "l", "app", BASE)
    (shell, program) = blocks("Read a file in a script")
    assert run(*shell, tmp_path, IMAGE=image) == f"{image} is made of version 12\n/etc/app.conf\n"
    assert (tmp_path / "etc-of-image/app.conf").read_bytes() == b"x=1\n"
    printed = run(*program, tmp_path, IMAGE=image)
    assert "ID=test" in printed
    assert "4 /etc/app.conf\n2 packages\n" in printed


def test_comparing_packages_when_run_then_prints_the_difference(tmp_path):
    status = STATUS.format(first="changed", version="2") + "\nPackage: new\nVersion: 3\n"
    image = put(tmp_path / "l", "old", BASE)
    other = put(tmp_path / "l", "new", {**BASE, "var/lib/dpkg/status": status.encode()})
    ((language, code),) = blocks("Compare the packages of two images")
    printed = run(language, code, tmp_path, IMAGE=image, OTHER_IMAGE=other)
    assert printed == "changed 1 → 2\nnew none → 3\n"


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "42"), (1, "/srv/data/table.parquet"), (2, "2")]
)
def test_opening_a_table_when_run_then_prints_its_content(tmp_path, number, expected):
    image = put(tmp_path / "l", "app", {**BASE, "srv/data/table.parquet": table()})
    language, code = blocks("Open a table inside an image")[number]
    assert expected in run(language, code, tmp_path, IMAGE=image)

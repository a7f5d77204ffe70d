"""``tocsin status`` for the images of the snapshotter."""

import json
import subprocess

from support import json_page
from support.cli_process import TOCSIN, tocsin
from support.snapshotter import base_layer, chain_ids, data_layer, image_of

LAZY = base_layer(), data_layer("lazy")
PLAIN = data_layer("plain"), base_layer()


def test_status_when_images_are_pulled_then_lazy_or_why_not(cluster):
    lazy = cluster.put("lazy", image_of(*LAZY), index=True)
    plain = cluster.put("plain", image_of(*PLAIN), index=False)
    cluster.rpull(lazy)
    cluster.rpull(plain)
    assert cluster.run(lazy, "cat", "/etc/name") == "lazy"
    place = ("--root", cluster.root, "--address", cluster.address)
    done = tocsin("status", "--json", *place)
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert json_page.problems("images of the snapshotter", document) == []
    first, second = document["images"]
    assert first["image"] == lazy
    assert first["chain_id"] == chain_ids(*LAZY)[-1]
    assert first["lazy"] is True
    assert first["manifest"] == str(image_of(*LAZY).descriptor.digest)
    assert first["state"] in ("lazy", "complete")
    assert second["image"] == plain
    assert (second["lazy"], second["state"]) == (False, "unpacked")
    assert second["reason"] == "the image has no index"
    text = tocsin("status", *place).stdout.decode()
    assert text.splitlines()[0].split() == ["IMAGE", "STATE", "REASON"]
    assert "the image has no index" in text


def test_status_when_directory_is_a_mount_of_the_snapshotter_then_state(cluster):
    lazy = cluster.put("lazy", image_of(*LAZY), index=True)
    cluster.rpull(lazy)
    cluster.run(lazy, "cat", "/etc/name")
    (name,) = cluster.image_mounts()
    done = tocsin("status", "--json", cluster.root / "images" / name / "fs")
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert document["state"] in ("lazy", "complete")
    assert json_page.problems("tocsin status", document) == []


def test_status_when_nothing_is_pulled_then_no_images(machine):
    place = ("--root", machine.root, "--address", machine.address)
    done = tocsin("status", *place)
    assert (done.returncode, done.stdout) == (0, b"")
    assert json.loads(tocsin("status", "--json", *place).stdout) == {"images": []}


def test_status_when_no_snapshotter_answers_then_not_found(tmp_path):
    done = tocsin("status", "--address", tmp_path / "s.sock")
    assert done.returncode == 3
    assert b's.sock": no snapshotter answers\nhint: Start it with systemctl' in done.stderr


def test_snapshotter_when_json_then_the_document_is_as_documented(tmp_path):
    command = [TOCSIN, "snapshotter", "--json", "--root", tmp_path / "r", "--address"]
    with subprocess.Popen([*command, tmp_path / "s"], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (our own program)
        printed = ""
        for line in process.stdout:
            printed += line
            if line == "}\n":
                break
        process.terminate()
        assert process.wait(60) == 0
    document = json.loads(printed)
    assert json_page.problems("tocsin snapshotter", document) == []
    assert document["address"] == str(tmp_path / "s")

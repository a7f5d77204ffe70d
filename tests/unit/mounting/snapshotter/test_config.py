"""The configuration file: each key, and what is refused."""

from pathlib import Path

import pytest

from tocsin.errors import FormatError
from tocsin.mounting import lazy_images
from tocsin.mounting.snapshotter.config import TRUST, SnapshotterConfig


def read(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return SnapshotterConfig.read(path)


def test_config_when_all_keys_are_given_then_all_are_used(tmp_path):
    config = read(
        tmp_path,
        """root = "/r"
        address = "/a.sock"
        image-service = "/i.sock"
        containerd = "/d.sock"
        cache-dir = "/c"
        cache-size = 7
        trust = "bound"
        background = false
        metrics = "127.0.0.1:9000"
        log-level = "debug"
        """,
    )
    assert config == SnapshotterConfig(
        root=Path("/r"),
        address=Path("/a.sock"),
        image_service=Path("/i.sock"),
        containerd=Path("/d.sock"),
        cache_dir=Path("/c"),
        cache_size=7,
        trust="bound",
        background=False,
        metrics="127.0.0.1:9000",
        log_level="debug",
    )
    assert config.with_values(root=None, cache_size=8).cache_size == 8


def test_config_when_empty_then_defaults_are_used(tmp_path):
    assert read(tmp_path, "") == SnapshotterConfig()


def test_trust_when_listed_then_it_is_what_mounts_know():
    assert set(TRUST) == set(lazy_images.TRUST)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rooot = '/r'", 'unknown key "rooot"'),
        ("cache_dir = '/r'", 'unknown key "cache_dir"'),
        ("root = 'r'", "root: not an absolute path"),
        ("root = 1", "root: not an absolute path"),
        ("cache-size = -1", "cache-size: not a number of bytes"),
        ("cache-size = true", "cache-size: not a number of bytes"),
        ("trust = 'all'", "trust: unknown value"),
        ("background = 1", "background: not true or false"),
        ("log-level = 'loud'", "log-level: unknown value"),
        ("metrics = 1", "metrics: unknown value"),
        ("root", "not valid TOML"),
    ],
)
def test_config_when_invalid_then_the_key_is_named(tmp_path, text, message):
    with pytest.raises(FormatError, match=message):
        read(tmp_path, text)

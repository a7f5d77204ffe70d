from __future__ import annotations

import click
import pytest

from tocsin.cli import options, parameters
from tocsin.indexing.options import DEFAULT_MIN_LAYER_SIZE
from tocsin.model.ztoc_defaults import DEFAULT_SPAN_SIZE


@pytest.mark.parametrize(
    ("text", "byte_count"),
    [
        ("0", 0),
        ("4194304", 4 << 20),
        ("4MiB", 4 << 20),
        ("4M", 4 << 20),
        ("4m", 4 << 20),
        (" 4 MiB ", 4 << 20),
        ("4MB", 4_000_000),
        ("12B", 12),
        ("1k", 1024),
        ("2GiB", 2 << 30),
        ("1T", 1 << 40),
        (str((1 << 63) - 1), (1 << 63) - 1),
    ],
)
def test_size(text, byte_count):
    assert parameters.size(text) == byte_count


@pytest.mark.parametrize(
    "text", ["", "-1", "MiB", "4iB", "1.5M", "4 apples", "9E", str(1 << 63), "8388608T", "٤"]
)
def test_size_refuses(text):
    with pytest.raises(click.BadParameter):
        parameters.size(text)


def test_defaults_are_those_of_the_library():
    assert parameters.size(options.DEFAULT_SPAN_SIZE) == DEFAULT_SPAN_SIZE
    assert parameters.size(options.DEFAULT_MIN_LAYER_SIZE) == DEFAULT_MIN_LAYER_SIZE

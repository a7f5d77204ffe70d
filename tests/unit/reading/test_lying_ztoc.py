"""zTOCs that lie although all digests match: the headers in the layer decide."""

from __future__ import annotations

import gzip

import pytest

import tocsin
from support import tampered, tarmaker
from support.readable import text
from support.tarmaker import entry
from tocsin.errors import FormatError, VerificationError

FILES = {"bin/app": text(300_000, seed=1), "etc/passwd": b"root:x:0:0\n", "etc/shadow": b"secret\n"}
LAYER = gzip.compress(tarmaker.tar(*(entry(name, data) for name, data in FILES.items())), mtime=0)
BUILT = tocsin.build_ztoc(LAYER, span_size=64 << 10)
ZTOC = BUILT.to_bytes()
OFFSETS = [found.uncompressed_offset for found in BUILT.entries]


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "layer").write_bytes(LAYER)
    return lambda ztoc: tocsin.open_layer(tmp_path / "layer", ztoc)


def test_cat_when_the_ztoc_is_correct_then_all_files(opened):
    with opened(ZTOC) as layer:
        assert {name: layer.cat(name) for name in FILES} == FILES


@pytest.mark.parametrize(
    "ztoc",
    [
        pytest.param(tampered.with_number(ZTOC, 1, "offset", OFFSETS[2]), id="another's data"),
        pytest.param(tampered.with_number(ZTOC, 1, "offset", OFFSETS[1] + 512), id="later"),
        pytest.param(tampered.with_number(ZTOC, 1, "offset", OFFSETS[1] + 1), id="between blocks"),
        pytest.param(tampered.with_number(ZTOC, 1, "size", 4), id="shorter"),
        pytest.param(tampered.with_number(ZTOC, 1, "size", 400), id="longer"),
        pytest.param(tampered.with_text(ZTOC, 1, "name", b"etc/groups"), id="another name"),
        pytest.param(tampered.with_number(ZTOC, 1, "mode", 0o4755), id="set-uid"),
    ],
)
def test_cat_when_the_ztoc_lies_about_a_file_then_verification_error(opened, ztoc):
    with opened(ztoc) as layer:
        name = "etc/groups" if layer.exists("etc/groups") else "etc/passwd"
        with pytest.raises(VerificationError, match=name):
            layer.cat(name)
        assert layer.cat("bin/app") == FILES["bin/app"]


def test_extract_when_the_ztoc_adds_a_set_uid_bit_then_verification_error(opened, tmp_path):
    ztoc = tampered.with_number(ZTOC, 1, "mode", 0o4755)
    with opened(ztoc) as layer, pytest.raises(VerificationError, match="found 644 and "):
        layer.extract("/", tmp_path / "out")


def test_cat_when_a_span_digest_differs_then_verification_error(opened):
    ztoc = tampered.with_span_digest(ZTOC, 1)
    with opened(ztoc) as layer, pytest.raises(VerificationError, match="span 1"):
        layer.cat("bin/app")


def test_cat_when_a_checkpoint_is_wrong_then_typed_error(opened):
    ztoc = tampered.with_checkpoint(ZTOC, 1, bits=3)
    with opened(ztoc) as layer, pytest.raises((FormatError, VerificationError)):
        layer.cat("bin/app")


@pytest.mark.parametrize(("field", "value"), [("size", (1 << 63) - 1), ("offset", (1 << 63) - 600)])
def test_extract_when_an_entry_ends_beyond_64_bits_then_typed_error(opened, tmp_path, field, value):
    ztoc = tampered.with_number(ZTOC, 1, field, value)
    with opened(ztoc) as layer, pytest.raises((FormatError, VerificationError)):
        layer.extract("/", tmp_path / "out")
    with opened(ztoc) as layer, pytest.raises((FormatError, VerificationError)):
        layer.cat("etc/passwd")


def test_open_layer_when_spans_are_too_few_for_a_file_then_typed_error(opened):
    huge = tampered.with_number(ZTOC, 2, "size", 1 << 40)
    try:
        with opened(huge) as layer, pytest.raises((FormatError, VerificationError)):
            layer.cat("etc/shadow")
    except FormatError as error:
        assert error.what.startswith("ztoc.")  # noqa: PT017 (refused already when read)


def test_extract_when_the_ztoc_calls_a_file_empty_then_verification_error(opened, tmp_path):
    ztoc = tampered.with_number(ZTOC, 1, "size", 0)
    with opened(ztoc) as layer, pytest.raises(VerificationError, match="etc/passwd"):
        layer.extract("/", tmp_path / "out")

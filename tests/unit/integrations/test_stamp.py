"""Steps of build systems: when they are up to date, and what they may replace."""

import json
import logging
import pickle
import shutil
import subprocess
import sys

import pytest

import tocsin
from support.images import make_image
from tocsin.integrations import image_signature, index_image, is_up_to_date
from tocsin.integrations.frameworks import framework
from tocsin.stores.layout import OciLayout

OPTIONS = tocsin.IndexingOptions(min_layer_size=0, jobs=1)
OTHER = tocsin.IndexingOptions(min_layer_size=0, span_size=1 << 20)


@pytest.fixture
def place(tmp_path):
    put(tmp_path, b"1")
    return tmp_path


def put(place, byte, tag="t"):
    with OciLayout(place / "D", write=True) as store:
        make_image({"a": byte * 5000}).put(store, tag)


def step(place, destination="out"):
    """Return the arguments of a step."""
    made = None if destination is None else f"oci:{place / 'D'}:{destination}"
    return (f"oci:{place / 'D'}:t", made), {"stamp": place / "s" / "stamp", "options": OPTIONS}


@pytest.mark.parametrize("destination", ["out", None])
def test_step_when_run_then_up_to_date_until_the_image_changes(place, destination):
    arguments, options = step(place, destination)
    assert not is_up_to_date(*arguments, **options)
    index_image(*arguments, **options)
    assert is_up_to_date(*arguments, **options)
    put(place, b"2")
    assert not is_up_to_date(*arguments, **options)
    index_image(*arguments, **options)
    assert is_up_to_date(*arguments, **options)


def test_step_when_options_change_then_out_of_date_except_for_speed(place):
    arguments, options = step(place)
    index_image(*arguments, **options)
    assert not is_up_to_date(*arguments, **{**options, "options": OTHER})
    faster = tocsin.IndexingOptions(min_layer_size=0, jobs=2, threads=2)
    assert is_up_to_date(*arguments, **{**options, "options": faster})


@pytest.mark.parametrize("destination", ["out", None])
def test_step_when_what_it_made_is_missing_then_out_of_date(place, destination):
    arguments, options = step(place, destination)
    index_image(*arguments, **options)
    before = image_signature(*arguments, **options)
    stamp = options["stamp"].read_bytes()
    shutil.rmtree(place / "D")
    put(place, b"1")
    assert options["stamp"].read_bytes() == stamp
    assert not is_up_to_date(*arguments, **options)
    assert image_signature(*arguments, **options) == f"{before} missing"


def test_signature_when_the_step_has_run_then_it_is_the_same(place):
    arguments, options = step(place)
    before = image_signature(*arguments, **options)
    index_image(*arguments, **options)
    assert image_signature(*arguments, **options) == before
    put(place, b"2")
    assert image_signature(*arguments, **options) != before


def test_destination_when_another_program_replaced_it_then_conflict(place):
    arguments, options = step(place)
    index_image(*arguments, **options)
    stamp = options["stamp"].read_bytes()
    put(place, b"3", tag="out")
    assert not is_up_to_date(*arguments, **options)
    with pytest.raises(tocsin.ConflictError):
        index_image(*arguments, **options)
    assert options["stamp"].read_bytes() == stamp
    index_image(*arguments, **options, force=True)
    assert is_up_to_date(*arguments, **options)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b"{}", b'{"made": 7}'],
)
def test_stamp_when_damaged_then_out_of_date(place, content):
    arguments, options = step(place)
    options["stamp"].parent.mkdir()
    options["stamp"].write_bytes(content)
    assert not is_up_to_date(*arguments, **options)


@pytest.mark.parametrize("made", [None, 7, [7], ["sha256:x"], ["host/repo:tag"], [None], []])
@pytest.mark.parametrize("destination", ["out", None])
def test_stamp_when_what_was_made_is_damaged_then_no_error(place, destination, made):
    arguments, options = step(place, destination)
    index_image(*arguments, **options)
    document = json.loads(options["stamp"].read_text())
    options["stamp"].write_text(json.dumps({**document, "made": made}))
    # Nothing was made: possible only if no layer was indexed.
    assert is_up_to_date(*arguments, **options) == (made == [] and destination is None)


def test_stamp_when_written_then_its_result_is_the_document_of_convert(place):
    arguments, options = step(place)
    result = index_image(*arguments, **options)
    document = json.loads(options["stamp"].read_text())
    assert document["result"] == result.to_dict()
    assert document["made"] == [str(tocsin.resolve(arguments[1]).digest)]
    assert document["image_digest"] == str(tocsin.resolve(arguments[0]).digest)
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301 (our own)


def test_step_when_it_runs_then_progress_is_logged(place, caplog):
    caplog.set_level(logging.INFO, "tocsin")
    arguments, options = step(place)
    result = index_image(*arguments, **options)
    layer = result.platforms[0].layers[0].layer
    said = [record.getMessage() for record in caplog.records if record.name == "tocsin"]
    assert f"1 layer, {layer.size} bytes" in said
    (finished,) = (text for text in said if text.startswith(f"layer {layer.digest}: finished in"))
    assert finished.endswith(" (1 of 1)")


def test_framework_when_missing_then_the_error_has_the_command():
    with pytest.raises(ImportError) as error:
        framework("tocsin_missing.part", package="tocsin-missing")
    expected = "tocsin_missing is not installed; install it with: pip install tocsin-missing"
    assert error.value.msg == expected


def test_package_when_imported_then_frameworks_are_not_loaded():
    script = "import sys, tocsin, tocsin.integrations; print(*sys.modules)"
    done = subprocess.run(  # noqa: S603 (this interpreter)
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"SCons", "doit", "snakemake", "invoke", "nox", "airflow", "pants"}
    assert "tocsin.integrations.scons" not in done.stdout.split()

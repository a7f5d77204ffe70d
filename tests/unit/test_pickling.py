"""Every result, value and event of the public API can be pickled, and its copy is equal."""

import dataclasses
import inspect
import pickle
from collections.abc import Mapping

import pytest

import tocsin
from support import tarmaker
from support.images import image_of, make_image, referrer_to
from tocsin.layers.indexer import index_layer
from tocsin.model.media_types import OCI_LAYER, OCI_MANIFEST
from tocsin.model.reference import parse_reference
from tocsin.model.soci_index import SOCI_INDEX_V1
from tocsin.stores.layout import OciLayout

ALL = tocsin.IndexingOptions(min_layer_size=0, platforms="linux/amd64", prefetch="a")
SEEK = tocsin.IndexingOptions(min_layer_size=0, seek=True)
REFERENCES = [
    "h.io/r:t",
    "oci:d:t",
    "oci-archive:f",
    "docker-archive:f:@0",
    "containerd:n/h.io/r:t",
]

STATUS = tocsin.MountStatus(
    directory="/mnt",
    image="oci:D",
    manifest="",
    platform="linux/amd64",
    index="seek",
    state="lazy",
    reason="loading in the background",
    pid=7,
    since=1.5,
    cache_dir="/cache",
    front="fuse",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    events = []
    link = tarmaker.entry("l", type=b"1", linkname="nowhere")
    odd = tarmaker.tar(tarmaker.entry("f", b"x" * 5000), link)
    with OciLayout(place / "D", write=True) as store:
        put = make_image({"a": b"1" * 5000}).put(store, "t")
        image_of((odd, OCI_LAYER)).put(store, "odd")
        store.put_manifest(referrer_to(put, SOCI_INDEX_V1), OCI_MANIFEST)
    name = f"oci:{place / 'D'}:t"
    converted = tocsin.convert(name, f"{name}2", options=ALL, progress=events.append)
    log = tocsin.AccessLog((tocsin.AccessedFile(0.5, "a", ((0, 1),)),))
    pushed = tocsin.push_access_log(name, log)
    with tocsin.open(f"oci:{place / 'D'}:odd") as odd_image, tocsin.open(name) as image:
        return [
            tocsin.create(name, options=ALL, progress=events.append),
            converted,
            tocsin.copy(name, f"oci:{place / 'E'}"),
            tocsin.verify(name, progress=events.append),
            tocsin.info(name),
            tocsin.indexes(f"{name}2"),
            tocsin.convert(name, f"{name}3", options=SEEK),
            tocsin.indexes(f"{name}3"),
            tocsin.verify(f"{name}3"),
            tocsin.resolve(name),
            index_layer(odd, progress=events.append),
            tocsin.build_ztoc(odd).info(),
            tocsin.build_ztoc(odd).entries[0],
            odd_image.extract("/", place / "out"),
            image.stat("a"),
            image.layers,
            image.manifest,
            tuple(events),
            tuple(map(parse_reference, REFERENCES)),
            ALL,
            log,
            pushed,
            tocsin.indexes(name),
            STATUS,
        ]


def parts_of(value):
    """Yield a value and everything inside it."""
    yield value
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from parts_of(getattr(value, field.name))
    elif isinstance(value, tuple | list | frozenset):
        for each in value:
            yield from parts_of(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from parts_of(each)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_result_when_pickled_then_copy_is_equal(results, protocol):
    for result in results:
        again = pickle.loads(pickle.dumps(result, protocol))  # noqa: S301 (our own)
        assert again == result
        assert type(again) is type(result)
        if hasattr(result, "to_dict"):
            assert again.to_dict() == result.to_dict()


def test_results_when_listed_then_every_public_class_is_included(results):
    seen = {type(part) for result in results for part in parts_of(result)}
    public = {getattr(tocsin, name) for name in tocsin.__all__}
    values = {kind for kind in public if inspect.isclass(kind) and dataclasses.is_dataclass(kind)}
    elsewhere = {tocsin.HttpOptions, tocsin.RegistryOptions}
    assert {kind.__name__ for kind in (values | {tocsin.Ztoc}) - seen - elsewhere} == set()


def test_ztoc_when_unpickled_then_it_is_validated_again():
    ztoc = tocsin.build_ztoc(tarmaker.tar(tarmaker.entry("a", b"x" * 5000)))
    data = pickle.dumps(ztoc)
    again = pickle.loads(data)  # noqa: S301 (our own)
    assert again.to_bytes() == ztoc.to_bytes()
    assert (again.paths, again.digest, hash(again)) == (ztoc.paths, ztoc.digest, hash(ztoc))
    with pytest.raises(tocsin.ZtocError):
        pickle.loads(data.replace(ztoc.to_bytes(), bytes(ztoc.size)))  # noqa: S301 (our own)

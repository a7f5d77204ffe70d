"""Which images a snapshotter may mount without pulling them, and why it may not mount others."""

import hashlib
import json

import pytest

import tocsin
from support.images import Image, make_image, put_index
from support.registry import Registry
from tocsin.errors import FormatError
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_MANIFEST
from tocsin.mounting.lazy_images import LazyImage, LazyImages, NotLazy
from tocsin.stores.layout import OciLayout

ZTOCS = tocsin.IndexingOptions(min_layer_size=0)
SEEK = tocsin.IndexingOptions(min_layer_size=0, seek_only=True)
IMAGE = make_image({"a": b"one"}, {"b": b"two"}, {"c": b"three"})
LAYERS = [str(each.digest) for each in IMAGE.layer_descriptors]


@pytest.fixture
def registry():
    with Registry() as registry:
        yield registry


class Pull:
    """An image in a registry, and questions about it."""

    def __init__(self, registry, directory, way, image=IMAGE):
        self.now = 0.0
        self.registry = registry
        self.directory = directory
        layout = directory / f"layout-{way}"
        with OciLayout(layout, write=True) as store:
            image.put(store, "1")
        self.reference = f"{registry.host}/app/it:{way}"
        if way in ("bound", "v2"):
            options = SEEK if way == "bound" else ZTOCS
            tocsin.convert(f"oci:{layout}:1", self.reference, options=options)
        else:
            tocsin.copy(f"oci:{layout}:1", self.reference)
            if way in ("seek", "v1"):
                tocsin.create(self.reference, options=SEEK if way == "seek" else ZTOCS)
        with tocsin.open(self.reference) as opened:
            self.manifest = str(opened.descriptor.digest)
        self.pinned = f"{registry.host}/app/it@{self.manifest}"
        registry.requests.clear()

    def images(self, **options):
        return LazyImages(self.directory / "cache", clock=lambda: self.now, **options)


@pytest.fixture
def pull(registry, tmp_path):
    return lambda way, **options: Pull(registry, tmp_path, way, **options)


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("trust", ["by-tag", "bound", "any"])
@pytest.mark.parametrize("way", ["bound", "v2", "seek", "v1"])
def test_image_when_it_has_an_index_then_lazy_only_if_that_is_trusted(pull, way, trust, by):
    it = pull(way)
    reference = it.reference if by == "tag" else it.pinned
    found = it.images(trust=trust).find(reference, manifest=it.manifest, layers=LAYERS)
    is_covered = way in ("bound", "v2")
    if is_covered or trust == "any" or (trust == "by-tag" and by == "tag"):
        assert isinstance(found, LazyImage), found
        assert found.index == {"bound": "seek"}.get(way, way)
        assert found.by_tag == (by == "tag")
        assert (found.choice == "auto") == is_covered
        assert f"{found.reference}" == f"docker://{it.pinned}"
    else:
        expected = {"by-tag": "for images pulled by tag", "bound": "with trust any"}[trust]
        assert isinstance(found, NotLazy)
        assert found.reason == (
            "the image's manifest names no index; indexes that refer to it are used only "
            f"{expected}"
        )
        # Nobody asks for indexes that are not used anyway.
        assert it.registry.asked("GET", "referrers|sha256-") == []


def test_chain_ids_when_found_then_as_the_specification_computes_them(pull):
    it = pull("v2")
    found = it.images().find(it.pinned, manifest=it.manifest, layers=[])
    diff_ids = json.loads(IMAGE.config)["rootfs"]["diff_ids"]
    expected = [diff_ids[0]]
    for each in diff_ids[1:]:
        text = f"{expected[-1]} {each}".encode()
        expected.append(f"sha256:{hashlib.sha256(text).hexdigest()}")
    assert list(found.chain_ids) == expected


@pytest.mark.parametrize("run", [LAYERS, LAYERS[1:], LAYERS[2:], LAYERS[:2], LAYERS[1:2], []])
def test_layers_when_some_of_the_image_then_lazy(pull, run):
    it = pull("v2")
    found = it.images().find(it.pinned, manifest=it.manifest, layers=run)
    assert isinstance(found, LazyImage)


@pytest.mark.parametrize(
    "run", [LAYERS[::-1], LAYERS[::2], ["sha256:" + "0" * 64], [*LAYERS, LAYERS[0]], ["x"]]
)
def test_layers_when_not_those_of_the_image_then_pulled(pull, run):
    it = pull("v2")
    found = it.images().find(it.pinned, manifest=it.manifest, layers=run)
    assert found == NotLazy("the layers in the labels are not those of the image's manifest")


def test_image_when_it_has_no_index_then_the_reason_says_so(pull):
    it = pull("none")
    found = it.images().find(it.reference, manifest=it.manifest, layers=LAYERS)
    assert found == NotLazy("the image has no index")


def test_image_when_only_the_tag_is_known_then_found_by_its_layers(registry, tmp_path):
    layout = tmp_path / "layout"
    arm = make_image({"arm": b"other"}, platform="linux/arm64")
    with OciLayout(layout, write=True) as store:
        put_index(store, {"linux/arm64": arm, "linux/amd64": IMAGE}, "1")
    reference = f"{registry.host}/app/it:1"
    tocsin.convert(f"oci:{layout}:1", reference, options=ZTOCS)
    registry.requests.clear()
    images = LazyImages(tmp_path / "cache")
    found = images.find(reference, manifest=None, layers=LAYERS, platform="linux/amd64")
    assert isinstance(found, LazyImage), found
    # The tag, its image index, one manifest, config and SOCI index; nothing of the other platform.
    assert len(registry.asked("GET", "/manifests/sha256:")) <= 3
    other = images.find(reference, manifest=None, layers=LAYERS, platform="linux/arm64")
    assert other == NotLazy("the layers in the labels are not those of the image's manifest")


def test_image_when_neither_manifest_nor_layers_are_known_then_pulled(pull):
    it = pull("v2")
    found = it.images().find(it.reference, manifest=None, layers=[])
    assert found == NotLazy("the labels name neither the manifest nor the layers")


@pytest.mark.parametrize(
    ("reference", "manifest", "platform"),
    [
        ("Not A Reference", None, None),
        ("", None, None),
        ("ghcr.io/a/b:1", "sha256:../../etc", None),
        ("ghcr.io/a/b:1", "md5:0", None),
        ("ghcr.io/a/b:1", "sha256:" + "0" * 64, "a/b/c/d/e"),
    ],
)
def test_labels_when_invalid_then_pulled(tmp_path, reference, manifest, platform):
    images = LazyImages(tmp_path / "cache")
    found = images.find(reference, manifest=manifest, layers=["x"], platform=platform)
    assert isinstance(found, NotLazy)


def test_registry_when_away_then_pulled_and_the_reason_says_so(pull):
    it = pull("v2")
    it.registry.__exit__()
    registry = tocsin.RegistryOptions(connect_timeout=1, timeout=1)
    images = it.images(registry=lambda: registry)
    found = images.find(it.reference, manifest=it.manifest, layers=LAYERS)
    assert isinstance(found, NotLazy)
    assert found.reason.startswith("the registry cannot be reached: ")


def test_image_when_known_and_registry_away_then_lazy(pull):
    it = pull("v2")
    first = it.images().find(it.pinned, manifest=it.manifest, layers=LAYERS)
    it.registry.__exit__()
    assert it.images().find(it.pinned, manifest=it.manifest, layers=LAYERS) == first


def test_config_when_it_has_another_number_of_layers_then_pulled(pull):
    config = json.loads(IMAGE.config)
    config["rootfs"]["diff_ids"].pop()
    text = json.dumps(config).encode()
    descriptor = tocsin.Descriptor.of(text, OCI_CONFIG)
    manifest = Manifest(descriptor, IMAGE.layer_descriptors, media_type=OCI_MANIFEST).to_json()
    image = Image(IMAGE.layers, IMAGE.layer_descriptors, text, manifest)
    it = pull("none", image=image)
    found = it.images(trust="any").find(it.pinned, manifest=it.manifest, layers=[])
    assert found == NotLazy(
        "the image's config lists another number of layers than its manifest (found 2, expected 3)"
    )


def test_answer_when_asked_again_then_remembered_for_a_while(pull):
    it = pull("v1")
    images = it.images()
    first = images.find(it.reference, manifest=it.manifest, layers=LAYERS)
    it.registry.requests.clear()
    for skipped in (1, 2):
        it.now += 59
        again = images.find(it.reference, manifest=it.manifest, layers=LAYERS[skipped:])
        assert again == first
    assert it.registry.requests == []
    it.now += 61
    images.find(it.reference, manifest=it.manifest, layers=LAYERS)
    assert it.registry.requests != []


def test_answer_when_no_then_asked_again_after_a_while(pull):
    it = pull("none")
    images = it.images()
    assert isinstance(images.find(it.reference, manifest=it.manifest, layers=[]), NotLazy)
    tocsin.create(it.reference, options=ZTOCS)
    assert isinstance(images.find(it.reference, manifest=it.manifest, layers=[]), NotLazy)
    it.now += 61
    assert isinstance(images.find(it.reference, manifest=it.manifest, layers=[]), LazyImage)


def test_answer_when_asked_all_the_time_then_not_remembered_for_ever(pull):
    it = pull("none")
    images = it.images()
    images.find(it.reference, manifest=it.manifest, layers=[])
    tocsin.create(it.reference, options=ZTOCS)
    for _ in range(13):
        it.now += 50
        found = images.find(it.reference, manifest=it.manifest, layers=[])
    assert isinstance(found, LazyImage)


def test_answers_when_many_then_the_oldest_are_forgotten(tmp_path):
    images = LazyImages(tmp_path / "cache")
    for number in range(100):
        images._answer((str(number), "", ""))
    assert len(images._answers) == 64


def test_trust_when_unknown_then_error(tmp_path):
    with pytest.raises(FormatError, match="expected one of by-tag, bound, any"):
        LazyImages(tmp_path, trust="all")


def test_choice_when_fewer_layers_then_one_that_knows_their_files(pull):
    it = pull("seek")
    found = it.images().find(it.reference, manifest=it.manifest, layers=[])
    assert found.choice_for(3) == found.choice != "auto"
    assert found.choice_for(2) == "v1"
    covered = pull("bound")
    found = covered.images().find(covered.pinned, manifest=covered.manifest, layers=[])
    assert found.choice_for(3) == found.choice_for(2) == "auto"


def test_image_when_stored_as_a_document_then_the_same(pull):
    it = pull("v1")
    found = it.images().find(it.reference, manifest=it.manifest, layers=[])
    assert LazyImage.from_dict(json.loads(json.dumps(found.to_dict()))) == found

"""`tocsin.verify` accepts correct indexes and reports each error with the right kind."""

from __future__ import annotations

import gzip
import json
import random
import tarfile
from dataclasses import replace

import pytest

from support import goldens, tarmaker
from support.images import image_of, make_image, put_index
from support.registry import Registry
from support.registry_client import store_of
from support.tampered import (
    put_index_of,
    put_v1,
    with_bytes,
    with_checkpoint,
    with_entry,
    with_number,
    with_span_digest,
    with_text,
    with_window_byte,
)
from support.ztocfile import parse
from tocsin import (
    IndexingOptions,
    NotFoundError,
    Severity,
    UnsupportedError,
    build_ztoc,
    convert,
    create,
    verify,
)
from tocsin.layers.indexer import LayerPass
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.events import LayerAdvanced, LayerFinished, LayerStarted, Planned
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.platform import Platform
from tocsin.model.soci_index import (
    CONFIG_BLOB,
    DISABLE_XATTRS,
    IMAGE_LAYER_DIGEST,
    IMAGE_LAYER_MEDIA_TYPE,
    INDEX_DIGEST,
    SPAN_SIZE,
    SociIndex,
)
from tocsin.stores.layout import OciLayout
from tocsin.verifying import layers as verify_layers
from tocsin.verifying.sample import sample

SIZE = 64 << 10
"""Span size with which the noise below has seven spans."""
NOISE = random.Random(7).randbytes(400_000)  # noqa: S311 (bytes that do not compress)
WORDS = b"the quick brown fox jumps over the lazy dog " * 40
OPTIONS = IndexingOptions(min_layer_size=0, span_size=SIZE)


@pytest.fixture
def image():
    return make_image({"usr/bin/app": NOISE, "etc/motd": WORDS, "etc/last": b"1"}, {"b": b"2"})


@pytest.fixture
def ztoc(image):
    return build_ztoc(image.layers[0], span_size=SIZE).to_bytes()


@pytest.fixture
def layout(tmp_path):
    return OciLayout(tmp_path / "layout", write=True)


def reference(layout, tag="app"):
    return f"oci:{layout.path}:{tag}"


def verified(layout, ref=None, **how):
    return verify(ref or reference(layout), **how)


def errors(result):
    return [f for f in result.all_findings if f.severity is Severity.ERROR]


def kinds(result):
    return {finding.kind for finding in result.all_findings}


def only_error(result, kind):
    """Return the message of the only error, which must be of `kind`."""
    (error,) = errors(result)
    assert error.kind == kind, error
    assert not result.ok
    return error.message


def path_of(layout, digest):
    return layout.path / "blobs" / "sha256" / str(digest).removeprefix("sha256:")


HOW = pytest.mark.parametrize("how", [{}, {"seed": 7}], ids=["full", "quick"])


# Correct indexes


@HOW
def test_version_1_when_correct_then_no_findings(layout, image, how):
    image.put(layout, tag="app")
    create(reference(layout), options=OPTIONS)
    result = verified(layout, **how)
    assert (result.ok, result.all_findings) == (True, ())
    (platform,) = result.platforms
    (index,) = platform.soci_indexes
    assert (str(platform.platform), index.version) == ("linux/amd64", 1)
    assert [layer.span_count for layer in index.layers] == [7, 1]
    assert [layer.checked_spans for layer in index.layers] == ([4, 1] if how else [7, 1])


@HOW
def test_version_2_when_platforms_are_correct_then_no_findings(layout, how):
    images = {
        name: make_image({name: NOISE}, {"same": WORDS}, platform=name)
        for name in ("linux/amd64", "linux/arm64")
    }
    put_index(layout, images, tag="app")
    convert(reference(layout), reference(layout, "soci"), options=OPTIONS)
    result = verified(layout, reference(layout, "soci"), **how)
    assert (result.ok, result.all_findings) == (True, ())
    assert [index.version for p in result.platforms for index in p.soci_indexes] == [2, 2]
    only = verified(layout, reference(layout, "soci"), platforms=["linux/arm64"], **how)
    assert [str(platform.platform) for platform in only.platforms] == ["linux/arm64"]
    for given in ("linux/arm64", Platform.parse("linux/arm64")):
        same = verified(layout, reference(layout, "soci"), platforms=given, **how)
        assert same.platforms == only.platforms
    assert only.all_findings == ()


def test_versions_when_both_exist_then_layer_is_read_once(layout, image):
    image.put(layout, tag="app")
    convert(reference(layout), reference(layout, "soci"), options=OPTIONS)
    create(reference(layout, "soci"), options=replace(OPTIONS, span_size=1 << 20, rebuild=True))
    events = []
    result = verified(layout, reference(layout, "soci"), progress=events.append)
    (platform,) = result.platforms
    assert [index.version for index in platform.soci_indexes] == [2, 1]
    assert result.ok
    started = [event.layer.digest for event in events if isinstance(event, LayerStarted)]
    assert sorted(started) == sorted(layer.digest for layer in image.layer_descriptors)
    assert isinstance(events[0], Planned)
    assert {type(event) for event in events[1:]} == {LayerStarted, LayerAdvanced, LayerFinished}


def test_layer_when_it_has_no_ztoc_then_listed_but_not_read(layout, image):
    image.put(layout, tag="app")
    create(reference(layout), options=replace(OPTIONS, min_layer_size=1 << 10))
    path_of(layout, image.layer_descriptors[1].digest).unlink()
    result = verified(layout)
    assert result.ok
    assert [layer.ztoc is None for layer in result.layers] == [False, True]


@HOW
def test_layer_when_it_occurs_twice_then_no_findings(layout, how):
    make_image({"a": WORDS}, {"a": WORDS}).put(layout, tag="app")
    create(reference(layout), options=OPTIONS)
    result = verified(layout, **how)
    assert (len(list(result.layers)), result.all_findings) == (2, ())


@HOW
def test_plain_tar_when_correct_then_no_findings(layout, how):
    make_image({"a": NOISE, "b": WORDS}, compress=False).put(layout, tag="app")
    create(reference(layout), options=OPTIONS)
    result = verified(layout, **how)
    assert (result.ok, result.all_findings) == (True, ())


def with_config(image, config):
    """Return the image with its config replaced."""
    manifest = Manifest.from_json(image.manifest)
    changed = replace(manifest, config=Descriptor.of(config, OCI_CONFIG))
    return replace(image, config=config, manifest=changed.to_json())


GOLDEN_LAYERS = sorted({case["layer"] for case in goldens.expected()["built"]})


@pytest.mark.parametrize("name", GOLDEN_LAYERS)
def test_golden_layer_when_indexed_then_no_findings(layout, name):
    layer = goldens.layer(name)
    plain = name.endswith(".tar")
    image = image_of((layer, OCI_LAYER if plain else OCI_LAYER_GZIP))
    diff_id = Digest.of(layer if plain else gzip.decompress(layer))
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = [str(diff_id)]
    with_config(image, json.dumps(config).encode()).put(layout, tag="app")
    try:
        create(reference(layout), options=replace(OPTIONS, span_size=4096))
    except UnsupportedError as left_out:
        pytest.skip(str(left_out))
    for how in ({}, {"seed": 1}):
        assert [finding.message for finding in verified(layout, **how).all_findings] == []


@pytest.mark.parametrize("name", ["gnu.syncstart.tar.gz", "gnu.emptyblocks.tar.gz"])
@HOW
def test_early_checkpoints_when_kept_as_in_reference_then_warning(layout, name, how):
    layer = goldens.layer(name)
    blob = build_ztoc(layer, span_size=4096, reference_identical=True).to_bytes()
    assert sum(point.uncompressed == 0 for point in parse(blob).checkpoints) > 1
    image = image_of((layer, OCI_LAYER_GZIP))
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = [str(Digest.of(gzip.decompress(layer)))]
    image = with_config(image, json.dumps(config).encode())
    put_v1(layout, image, [blob], span_size=4096)
    result = verified(layout, **how)
    (found,) = result.all_findings
    assert (result.ok, found.kind, found.severity) == (True, "ztoc.refused", Severity.WARNING)
    assert "span 0 is empty" in found.message


@HOW
def test_ztoc_when_built_with_another_tool_then_no_findings(layout, image, how):
    made = LayerPass(span_size=SIZE, build_tool_identifier="another tool")
    made.push(image.layers[0])
    put_v1(layout, image, [made.finish().ztoc.to_bytes()], span_size=SIZE)
    assert verified(layout, **how).all_findings == ()


def test_ztoc_when_encoded_differently_then_note(layout, image, ztoc):
    put_v1(layout, image, [ztoc.replace(b"0.9", b"0.8")], span_size=SIZE)
    result = verified(layout)
    (found,) = result.all_findings
    assert (result.ok, found.kind, found.severity) == (True, "ztoc.encoding", Severity.NOTE)


# Errors that are visible only in the layer, since all digests match

# Entry 0 is usr/bin/app, and its header is in span 0.
TAMPERED = {
    "offset": ("ztoc.file", "usr/bin/app", lambda z: with_number(z, 0, "offset", 1024)),
    "size": ("ztoc.file", "usr/bin/app", lambda z: with_number(z, 0, "size", 399_999)),
    "mode": ("ztoc.file", "usr/bin/app", lambda z: with_number(z, 0, "mode", 0o4755)),
    "name": ("ztoc.file", "usr/bin/app", lambda z: with_text(z, 0, "name", b"usr/bin/spy")),
    "type": ("ztoc.file", "usr/bin/app", lambda z: with_text(z, 0, "type", b"dir")),
    "window": ("ztoc.window", "span 1 ", lambda z: with_window_byte(z, 1, 5)),
    "first window": ("ztoc.window", "span 0 ", lambda z: with_window_byte(z, 0, 32767)),
    "span": ("ztoc.span", "span 6 ", lambda z: with_span_digest(z, 6)),
    "checkpoint": ("ztoc.checkpoint", "span 6 ", lambda z: with_checkpoint(z, 6, compressed=1)),
    "bits": ("ztoc.checkpoint", "span 6 ", lambda z: with_checkpoint(z, 6, bits=3)),
    "first": ("ztoc.checkpoint", "span 0 ", lambda z: with_checkpoint(z, 0, compressed=1)),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampered_ztoc_when_all_digests_match_then_error(layout, image, ztoc, what):
    kind, name, tamper = TAMPERED[what]
    changed = tamper(ztoc)
    put_v1(layout, image, [changed], span_size=SIZE)
    message = {f.kind: f.message for f in errors(verified(layout))}[kind]
    assert name in message
    assert str(Digest.of(changed)) in message


@pytest.mark.parametrize("what", TAMPERED)
def test_tampered_ztoc_when_verified_quickly_then_error(layout, image, ztoc, what):
    _, _, tamper = TAMPERED[what]
    put_v1(layout, image, [tamper(ztoc)], span_size=SIZE)
    result = verified(layout, quick=True)
    assert not result.ok
    assert {f.kind for f in errors(result)} <= {
        "ztoc.file",
        "ztoc.refused",
        "ztoc.window",
        "ztoc.span",
        "ztoc.checkpoint",
    }


def test_file_finding_when_several_differ_then_first_one_and_count(layout, image, ztoc):
    changed = with_number(with_number(ztoc, 0, "mode", 0o4755), 1, "mode", 0o777)
    put_v1(layout, image, [changed], span_size=SIZE)
    (error,) = errors(verified(layout))
    assert "entry 0 (usr/bin/app): mode is 0o4755 in the zTOC, 0o644 in the layer" in error.message
    assert error.message.endswith("; 1 more entries differ")
    assert (error.expected, error.actual) == ("0o644", "0o4755")


def test_ztoc_when_built_for_layer_of_same_size_then_file_finding(layout):
    one, other = (make_image({name: b"1"}, compress=False) for name in "ab")
    assert len(one.layers[0]) == len(other.layers[0])
    put_v1(layout, one, [build_ztoc(other.layers[0], span_size=SIZE).to_bytes()], span_size=SIZE)
    assert "entry 0 (a): name is b" in verified(layout).all_findings[0].message


@HOW
def test_ztoc_when_built_for_layer_of_other_size_then_size_finding(layout, image, how):
    put_v1(layout, image, [build_ztoc(image.layers[1]).to_bytes()], span_size=4 << 20)
    assert str(image.layer_descriptors[0].digest) in only_error(
        verified(layout, **how), "ztoc.layer_size"
    )


# Content that does not match its digest


@HOW
def test_ztoc_when_its_bytes_are_changed_then_digest_finding(layout, image, ztoc, how):
    put_v1(layout, image, [ztoc], span_size=SIZE)
    path = path_of(layout, Digest.of(ztoc))
    path.write_bytes(with_bytes(ztoc, len(ztoc) // 2, bytes([ztoc[len(ztoc) // 2] ^ 1])))
    message = only_error(verified(layout, **how), "ztoc.digest")
    assert str(Digest.of(ztoc)) in message
    assert str(Digest.of(path.read_bytes())) in message


@HOW
def test_ztoc_when_missing_or_invalid_then_finding(layout, image, ztoc, how):
    put_v1(layout, image, [ztoc, b"no ztoc"], span_size=SIZE)
    path_of(layout, Digest.of(ztoc)).unlink()
    result = verified(layout, **how)
    assert [f.kind for f in errors(result)] == ["ztoc.missing", "ztoc.format"]
    assert str(Digest.of(ztoc)) in errors(result)[0].message


@HOW
def test_index_when_its_bytes_are_changed_then_digest_finding(layout, image, ztoc, how):
    image.put(layout, tag="app")
    create(reference(layout), options=OPTIONS)
    convert(reference(layout), reference(layout, "soci"), options=OPTIONS)
    index = verified(layout, reference(layout, "soci")).platforms[0].soci_indexes[0].digest
    path = path_of(layout, index)
    data = path.read_bytes()
    path.write_bytes(with_bytes(data, data.index(b"octet"), b"octeT"))
    assert str(index) in only_error(
        verified(layout, reference(layout, "soci"), **how), "index.digest"
    )


def tamper_with_layer(layout, image, ztoc, span_id):
    """Change a byte in the middle of a span; the noise is stored, so it still inflates."""
    path = path_of(layout, image.layer_descriptors[0].digest)
    start, end = parse(ztoc).compressed_ranges[span_id]
    data = path.read_bytes()
    at = (start + end) // 2
    path.write_bytes(with_bytes(data, at, bytes([data[at] ^ 1])))
    return Digest.of(path.read_bytes())


def test_layer_when_its_bytes_are_changed_then_digest_and_span(layout, image, ztoc):
    put_v1(layout, image, [ztoc], span_size=SIZE)
    actual = tamper_with_layer(layout, image, ztoc, 3)
    message = only_error(verified(layout), "layer.digest")
    for part in (image.layer_descriptors[0].digest, actual, "span 3 "):
        assert str(part) in message


def test_layer_when_changed_outside_all_spans_then_digest_finding(layout, image, ztoc):
    put_v1(layout, image, [ztoc], span_size=SIZE)
    path = path_of(layout, image.layer_descriptors[0].digest)
    path.write_bytes(with_bytes(image.layers[0], 4, b"\1"))  # the time in the gzip header
    assert "span" not in only_error(verified(layout), "layer.digest")


@pytest.mark.parametrize("span_id", [0, 6])
def test_layer_when_changed_in_sampled_span_then_quick_finds_the_span(layout, image, ztoc, span_id):
    put_v1(layout, image, [ztoc], span_size=SIZE)
    tamper_with_layer(layout, image, ztoc, span_id)
    assert f"span {span_id} " in only_error(verified(layout, quick=True), "ztoc.span")


@HOW
def test_layer_when_missing_or_truncated_then_finding(layout, image, ztoc, how):
    put_v1(layout, image, [ztoc], span_size=SIZE)
    path = path_of(layout, image.layer_descriptors[0].digest)
    path.write_bytes(image.layers[0][:-1])
    assert {f.kind for f in errors(verified(layout, **how))} == (
        {"layer.missing"} if how else {"layer.size"}
    )
    path.unlink()
    only_error(verified(layout, **how), "layer.missing")


def test_layer_when_it_cannot_be_indexed_then_format_finding(layout, image, ztoc):
    layer = image.layers[0] + b"garbage"
    odd = image_of((layer, OCI_LAYER_GZIP))
    put_v1(layout, odd, [ztoc], span_size=SIZE)
    found = {f.kind: f.message for f in errors(verified(layout))}
    assert found.keys() == {"layer.format", "ztoc.layer_size"}
    assert str(Digest.of(layer)) in found["layer.format"]


def test_diff_id_when_wrong_in_config_then_finding_has_both(layout, image, ztoc):
    config = json.loads(image.config)
    right, wrong = config["rootfs"]["diff_ids"][0], str(Digest.of(b"other"))
    config["rootfs"]["diff_ids"][0] = wrong
    put_v1(layout, with_config(image, json.dumps(config).encode()), [ztoc], span_size=SIZE)
    message = only_error(verified(layout), "layer.diff_id")
    for part in (right, wrong, image.layer_descriptors[0].digest):
        assert str(part) in message


@HOW
def test_diff_ids_when_too_few_then_config_finding(layout, image, ztoc, how):
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"].pop()
    put_v1(layout, with_config(image, json.dumps(config).encode()), [ztoc], span_size=SIZE)
    assert ": 1 diff IDs, but the manifest has 2" in only_error(
        verified(layout, **how), "config.diff_ids"
    )


# Links


def bound(layout, image, named, tag="app"):
    """Put the image with the annotation that ``convert`` adds, naming its SOCI index."""
    manifest = replace(Manifest.from_json(image.manifest), annotations={INDEX_DIGEST: named})
    image.put(layout)
    layout.put_blob(CONFIG_BLOB)
    return layout.put_manifest(manifest.to_json(), OCI_MANIFEST, tag=tag)


def index_of(layout, image, ztoc, **changes):
    """Return a version 1 index of the image's first layer, changed by `with_entry`."""
    subject = image.put(layout, tag="app")
    put = put_v1(layout, image, [ztoc], span_size=SIZE)
    index = SociIndex.from_json(layout.manifest(put))
    layout.delete(put)
    assert index.subject is not None
    assert index.subject.digest == subject.digest
    return with_entry(index, **changes)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("ztoc.layer", {"annotations": {IMAGE_LAYER_DIGEST: str(Digest.of(b"other"))}}),
        ("ztoc.size", {"size": 17}),
        ("ztoc.media_type", {"media_type": "application/vnd.example"}),
        ("ztoc.layer_media_type", {"annotations": {IMAGE_LAYER_MEDIA_TYPE: OCI_LAYER}}),
        ("ztoc.span_size", {"annotations": {SPAN_SIZE: "17"}}),
    ],
)
def test_index_entry_when_wrong_then_finding_of_that_kind(layout, image, ztoc, kind, changes):
    put_index_of(layout, index_of(layout, image, ztoc, **changes))
    for how in ({}, {"quick": True}):
        assert str(Digest.of(ztoc)) in only_error(verified(layout, **how), kind)


@HOW
def test_index_entry_when_it_names_another_layer_then_size_finding(layout, image, ztoc, how):
    other = str(image.layer_descriptors[1].digest)
    put_index_of(layout, index_of(layout, image, ztoc, annotations={IMAGE_LAYER_DIGEST: other}))
    assert other in only_error(verified(layout, **how), "ztoc.layer_size")


def test_index_when_not_go_exact_then_bytes_finding(layout, image, ztoc):
    index = index_of(layout, image, ztoc)
    pretty = json.dumps(json.loads(index.to_json()), indent=1).encode()
    layout.put_manifest(pretty, OCI_MANIFEST)
    assert str(Digest.of(pretty)) in only_error(verified(layout), "index.bytes")


@HOW
def test_annotation_when_index_is_missing_then_finding(layout, image, how):
    missing = str(Digest.of(b"nowhere"))
    bound(layout, image, missing)
    assert missing in only_error(verified(layout, **how), "index.missing")


def test_annotation_when_not_a_digest_then_finding(layout, image):
    bound(layout, image, "../etc")
    assert '"../etc"' in only_error(verified(layout), "index.annotation")


def test_annotation_when_index_has_another_subject_then_finding(layout, image, ztoc):
    other = put_v1(layout, image, [ztoc], span_size=SIZE)
    put = bound(layout, image, str(other.digest), tag="bound")
    result = verified(layout, reference(layout, "bound"))
    message = only_error(result, "index.subject")
    assert str(image.descriptor.digest) in message
    assert str(put.digest) in message
    assert {"index.version", "index.unlisted"} <= kinds(result)


def test_referrer_when_subject_is_another_manifest_then_finding(tmp_path):
    """Without the referrers API, the list of referrers is a tag that clients write."""
    image, other = make_image({"a": b"1"}), make_image({"b": b"2"})
    ztoc = build_ztoc(image.layers[0], span_size=SIZE).to_bytes()
    with Registry() as registry:
        with store_of(registry, write=True) as store:
            image.put(store, tag="app")
            put_v1(store, other, [ztoc], span_size=SIZE, tag="other")
            store.commit()
        tags = registry.repository("team/app").tags
        (name,) = (tag for tag in tags if other.descriptor.digest.hex in tag)
        tags[name.replace(other.descriptor.digest.hex, image.descriptor.digest.hex)] = tags[name]
        result = verify(f"{registry.host}/team/app:app")
    found = {finding.kind: finding.message for finding in errors(result)}
    assert found.keys() == {"index.subject", "ztoc.layer"}
    assert str(other.descriptor.digest) in found["index.subject"]


def converted(layout, image):
    """Put a converted image and return its image index."""
    image.put(layout, tag="app")
    convert(reference(layout), reference(layout, "soci"), options=OPTIONS)
    target = layout.resolve("soci")
    return json.loads(layout.manifest(target))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("index.size", lambda entry: entry.update(size=17)),
        ("index.media_type", lambda entry: entry.update(mediaType="application/vnd.example")),
        (
            "index.annotation",
            lambda entry: entry["annotations"].update(
                {"com.amazon.soci.image-manifest-digest": f"sha256:{'1' * 64}"}
            ),
        ),
    ],
)
def test_image_index_entry_when_wrong_then_finding_of_that_kind(layout, image, kind, change):
    document = converted(layout, image)
    change(document["manifests"][1])
    layout.put_manifest(json.dumps(document).encode(), document["mediaType"], tag="soci")
    message = only_error(verified(layout, reference(layout, "soci")), kind)
    assert document["manifests"][1]["digest"] in message


def test_image_index_entry_when_not_named_by_a_manifest_then_warning(layout, image):
    document = converted(layout, image)
    stray = {**document["manifests"][1], "digest": f"sha256:{'1' * 64}"}
    document["manifests"].append(stray)
    layout.put_manifest(json.dumps(document).encode(), document["mediaType"], tag="soci")
    result = verified(layout, reference(layout, "soci"))
    assert (result.ok, kinds(result)) == (True, {"index.stray"})


def test_xattrs_when_disabled_but_needed_then_finding(layout, tmp_path):
    layer = goldens.layer("pax.zlib6.tar.gz")
    built = build_ztoc(layer, span_size=SIZE)
    assert built.needs_xattrs
    image = image_of((layer, OCI_LAYER_GZIP))
    put_index_of(
        layout,
        index_of(layout, image, built.to_bytes(), annotations={DISABLE_XATTRS: "true"}),
    )
    assert "ztoc.xattrs" in {f.kind for f in errors(verified(layout, quick=True))}


def test_prefetch_when_span_does_not_exist_then_finding(layout, image):
    image.put(layout, tag="app")
    create(reference(layout), options=replace(OPTIONS, prefetch=("usr/bin/app",)))
    assert verified(layout).all_findings == ()
    (index,) = verified(layout).platforms[0].soci_indexes
    soci = SociIndex.from_json(path_of(layout, index.digest).read_bytes())
    wrong = layout.put_blob(b'{"version":"1.0","prefetch_spans":[{"start_span":0,"end_span":7}]}')
    *ztocs, prefetch = soci.layers
    changed = replace(prefetch, digest=wrong.digest, size=wrong.size)
    layout.delete(index.descriptor)
    put_index_of(layout, replace(soci, layers=(*ztocs, changed)))
    assert "span 7 does not exist, the last span of the layer is 6" in only_error(
        verified(layout), "prefetch.span"
    )


# Missing indexes, and how verify runs


def test_image_when_it_has_no_index_then_not_found_error(layout, image):
    image.put(layout, tag="app")
    with pytest.raises(NotFoundError, match="has no SOCI index"):
        verified(layout)


def test_platform_when_only_others_have_an_index_then_note(layout):
    large = make_image({"a": NOISE}, platform="linux/amd64")
    small = make_image({"a": b"1"}, platform="linux/arm64")
    put_index(layout, {"linux/amd64": large, "linux/arm64": small}, tag="app")
    create(reference(layout), options=replace(OPTIONS, min_layer_size=1 << 10))
    result = verified(layout)
    assert (result.ok, kinds(result)) == (True, {"index.none"})


def test_sample_when_seed_is_equal_then_equal_with_first_and_last():
    picked = [sample(100, seed=7, name="a") for _ in range(2)]
    assert picked[0] == picked[1]
    assert (picked[0][0], picked[0][-1], len(set(picked[0]))) == (0, 99, 4)
    assert sample(100, seed=8, name="a") != picked[0] != sample(100, seed=7, name="b")
    assert [sample(count, seed=1, name="") for count in (0, 1, 4)] == [[], [0], [0, 1, 2, 3]]


def test_seed_when_given_or_random_then_in_result(layout, image, ztoc):
    put_v1(layout, image, [ztoc], span_size=SIZE)
    assert (verified(layout).seed, verified(layout, seed=7).seed) == (None, 7)
    again = verified(layout, quick=True)
    assert again.quick
    assert verified(layout, seed=again.seed).platforms == again.platforms


def test_quick_when_it_reads_a_layer_then_only_the_sample_is_read(layout, image, ztoc, monkeypatch):
    put_v1(layout, image, [ztoc], span_size=SIZE)
    ranges = []
    read = OciLayout.blob_range

    def recorded(store, descriptor, start, end):
        ranges.append((start, end))
        return read(store, descriptor, start, end)

    monkeypatch.setattr(OciLayout, "blob_range", recorded)
    result = verified(layout, quick=True)
    known = parse(ztoc).compressed_ranges
    assert [found for found in ranges if found in known] == ranges[1:]
    assert len(ranges) == 1 + 4
    assert result.ok


def test_quick_when_layer_has_sparse_files_then_no_false_findings(layout):
    records = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "s",
        "GNU.sparse.realsize": "5000",
    }
    layer = tarmaker.tar(
        tarmaker.entry("S/s", tarmaker.padded(b"1\n0\n1\n") + b"x", pax=records),
        tarmaker.entry("link", type=tarfile.LNKTYPE, linkname="s", size=4000),
        tarmaker.entry("after", NOISE[: 3 * SIZE]),
        tarmaker.entry("last", b"last"),
    )
    image_of((layer, OCI_LAYER)).put(layout, tag="app")
    options = replace(OPTIONS, reference_identical=True)
    create(reference(layout), options=options)
    assert "ztoc.file" not in kinds(verified(layout, quick=True))


def test_progress_when_it_raises_then_the_run_stops(layout, image, ztoc):
    put_v1(layout, image, [ztoc], span_size=SIZE)

    def stop(event):
        if isinstance(event, LayerStarted):
            raise RuntimeError("enough")  # noqa: TRY004 (not about the type)

    with pytest.raises(RuntimeError, match="enough"):
        verified(layout, progress=stop)


# Threads


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_verify_when_threads_vary_then_result_is_the_same(layout, image, threads):
    image.put(layout, "app")
    create(reference(layout), options=OPTIONS)
    result = verified(layout, threads=threads)
    assert result.ok
    assert result.platforms == verified(layout).platforms


def test_verify_when_threads_is_zero_then_value_error(layout, image):
    image.put(layout, "app")
    with pytest.raises(ValueError, match="threads is 0"):
        verified(layout, threads=0)


def test_verify_when_layer_has_two_kinds_of_ztoc_then_threads_are_shared(
    layout, image, monkeypatch
):
    image.put(layout, "app")
    create(reference(layout), options=OPTIONS)
    create(reference(layout), options=replace(OPTIONS, span_size=2 * SIZE), force=True)
    given = []

    class Pass(LayerPass):
        def __init__(self, *, threads, **options):
            given.append(threads)
            super().__init__(threads=threads, **options)

    monkeypatch.setattr(verify_layers, "LayerPass", Pass)
    assert verified(layout, jobs=1, threads=4).ok
    assert given[:2] == [2, 2]

import errno
import json
import os
import threading
from dataclasses import replace

import pytest

from support.images import make_image, put_index, referrer_to
from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.descriptor import write_descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_INDEX, OCI_MANIFEST
from tocsin.stores.base import MustStream, MustVerify, TakenOver, read_blob
from tocsin.stores.layout import OciLayout
from tocsin.stores.layout_index import IMAGE_NAME, LAYOUT_FILE
from tocsin.stores.origins import Nowhere
from tocsin.stores.window import PIECE_SIZE


@pytest.fixture
def image():
    return make_image({"a": b"hello"}, {"b": b"world" * 1000})


@pytest.fixture
def layout(tmp_path):
    return OciLayout(tmp_path / "D", write=True)


def blob_path(layout, digest):
    return layout.path / "blobs" / "sha256" / digest.hex


def names_in(layout):
    return sorted(p.name for p in layout.path.iterdir())


def edit_index(layout, change):
    path = layout.path / "index.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


# Reading what was written


def test_layout_when_an_image_is_put_then_another_reader_reads_it(layout, image):
    image.put(layout, "docker.io/library/x:1")
    again = OciLayout(layout.path)
    found = again.resolve("docker.io/library/x:1")
    assert found.digest == image.descriptor.digest
    assert again.resolve(None) == found
    assert again.manifest(found) == image.manifest
    for descriptor, data in zip(image.layer_descriptors, image.layers, strict=True):
        assert b"".join(again.blob(descriptor)) == data
        assert b"".join(again.blob(descriptor, verify=False)) == data
        assert again.blob_range(descriptor, 3, 9) == data[3:9]
        assert again.has_blob(descriptor)
    assert again.tags() == ["docker.io/library/x:1"]
    assert names_in(layout) == ["blobs", "index.json", "oci-layout"]
    assert (layout.path / "oci-layout").read_bytes() == LAYOUT_FILE


def test_resolve_when_digest_is_given_then_unlisted_manifests_are_found(layout, image):
    put_index(layout, {"linux/amd64": image}, "multi")
    found = layout.resolve(image.descriptor.digest)
    assert found == image.descriptor
    with pytest.raises(NotFoundError, match="not found"):
        layout.resolve(Digest("0" * 64))
    with pytest.raises(FormatError, match="manifest"):
        layout.resolve(image.layer_descriptors[0].digest)


def test_resolve_when_there_are_several_images_then_the_tags_are_listed(layout, image):
    image.put(layout, "one")
    make_image({"z": b""}).put(layout, "two")
    with pytest.raises(NotFoundError, match=r"contains 2 images, but .* one, two"):
        layout.resolve(None)
    with pytest.raises(NotFoundError, match=r'image "three" not found .found tags: one, two'):
        layout.resolve("three")
    with pytest.raises(NotFoundError, match='"@7"'):
        layout.resolve("@7")
    assert layout.resolve("@0").digest == image.descriptor.digest


def test_resolve_when_one_image_has_two_tags_then_no_tag_is_needed(layout, image):
    descriptor = image.put(layout, "one")
    layout.tag(descriptor, "two")
    assert layout.resolve(None).digest == descriptor.digest
    assert layout.tags() == ["one", "two"]


def test_resolve_when_layout_is_empty_then_it_says_so(layout):
    with pytest.raises(NotFoundError, match="contains no images"):
        layout.resolve(None)


def test_resolve_when_full_name_is_in_containerds_annotation_then_found(layout, image):
    image.put(layout, "latest")
    edit_index(
        layout,
        lambda d: d["manifests"][0]["annotations"].update(
            {IMAGE_NAME: "docker.io/library/busybox:latest"}
        ),
    )
    assert layout.resolve("busybox").digest == image.descriptor.digest
    assert layout.resolve("docker.io/library/busybox:latest").digest == image.descriptor.digest


def test_blob_when_it_is_larger_than_a_piece_then_it_is_split(layout):
    data = os.urandom(2 * PIECE_SIZE + 5)
    descriptor = layout.put_blob(iter([data[:10], data[10:]]))
    assert [len(p) for p in layout.blob(descriptor)] == [PIECE_SIZE, PIECE_SIZE, 5]
    empty = layout.put_blob(b"")
    assert list(layout.blob(empty)) == []
    stream = layout.blob(descriptor)
    next(stream)
    stream.close()


def test_blob_range_when_it_is_not_inside_the_blob_then_it_is_refused(layout):
    descriptor = layout.put_blob(b"0123456789")
    assert layout.blob_range(descriptor, 10, 10) == b""
    for start, end in [(-1, 2), (3, 2), (0, 11)]:
        with pytest.raises(ValueError, match="the blob has 10 bytes"):
            layout.blob_range(descriptor, start, end)


# Bad layouts


def test_blob_when_it_is_missing_then_it_is_not_found(layout, image):
    image.put(layout, "t")
    digest = image.layer_descriptors[0].digest
    blob_path(layout, digest).unlink()
    assert not layout.has_blob(image.layer_descriptors[0])
    with pytest.raises(NotFoundError, match=f"blob {digest}: not found"):
        list(layout.blob(image.layer_descriptors[0]))
    with pytest.raises(NotFoundError):
        layout.blob_range(image.layer_descriptors[0], 0, 1)


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda _: b""])
def test_blob_when_it_is_too_short_or_long_then_it_is_refused(layout, image, change):
    image.put(layout, "t")
    layer = image.layer_descriptors[1]
    blob_path(layout, layer.digest).write_bytes(change(image.layers[1]))
    assert not layout.has_blob(layer)
    with pytest.raises(VerificationError, match=f"expected {layer.size}") as refusal:
        list(layout.blob(layer))
    assert refusal.value.expected == str(layer.size)


def test_blob_range_when_blob_is_short_then_it_is_refused(layout, image):
    image.put(layout, "t")
    layer = image.layer_descriptors[1]
    blob_path(layout, layer.digest).write_bytes(image.layers[1][:5])
    with pytest.raises(VerificationError, match="expected 6"):
        layout.blob_range(layer, 0, 6)


def test_blob_when_its_digest_is_wrong_then_the_last_piece_is_not_yielded(layout):
    data = bytearray(os.urandom(PIECE_SIZE + 10))
    descriptor = layout.put_blob(bytes(data))
    data[0] ^= 1
    blob_path(layout, descriptor.digest).write_bytes(data)
    stream = layout.blob(descriptor)
    assert len(next(stream)) == PIECE_SIZE
    with pytest.raises(VerificationError, match="wrong digest") as refusal:
        next(stream)
    assert refusal.value.expected == str(descriptor.digest)
    assert refusal.value.actual == str(Digest.of(bytes(data)))


def test_manifest_when_it_is_huge_or_wrong_then_it_is_refused(layout, image):
    descriptor = image.put(layout, "t")
    with pytest.raises(FormatError, match="at most"):
        layout.manifest(replace(descriptor, size=5 << 20))
    blob_path(layout, descriptor.digest).write_bytes(image.manifest.replace(b"sha", b"shb"))
    with pytest.raises(VerificationError):
        layout.manifest(descriptor)


def test_read_blob_when_it_is_larger_than_allowed_then_it_is_refused(layout):
    descriptor = layout.put_blob(b"x" * 11)
    assert read_blob(layout, descriptor, max_size=11) == b"x" * 11
    with pytest.raises(FormatError, match="at most 10"):
        read_blob(layout, descriptor, max_size=10)


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../../etc/passwd", "../../x", "sha256:" + "A" * 64, "sha256:" + "/" * 64],
)
def test_index_when_a_digest_is_malformed_then_it_is_refused(layout, image, digest):
    image.put(layout, "t")
    edit_index(layout, lambda d: d["manifests"][0].update(digest=digest))
    with pytest.raises(FormatError) as refusal:
        OciLayout(layout.path).resolve("t")
    assert refusal.value.what == "digest"


def test_index_when_digest_is_sha512_then_it_is_unsupported(layout, image):
    image.put(layout, "t")
    edit_index(layout, lambda d: d["manifests"][0].update(digest="sha512:" + "a" * 128))
    with pytest.raises(UnsupportedError, match="sha512"):
        OciLayout(layout.path).resolve("t")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("index.json", b"{", "invalid JSON"),
        ("index.json", b'{"manifests":{}}', r"index.json.manifests: found object"),
        ("index.json", b"x" * (5 << 20), "at most"),
        ("oci-layout", b"{}", "imageLayoutVersion"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', 'found "2.0.0"'),
    ],
)
def test_layout_when_its_files_are_invalid_then_it_is_refused(layout, image, name, content, says):
    image.put(layout, "t")
    (layout.path / name).write_bytes(content)
    with pytest.raises(FormatError, match=says) as refusal:
        OciLayout(layout.path).resolve("t")
    assert refusal.value.what == "layout"


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_layout_when_a_file_is_missing_then_it_is_not_a_layout(layout, image, name):
    image.put(layout, "t")
    (layout.path / name).unlink()
    with pytest.raises(FormatError, match=f"not an OCI layout: {name}"):
        OciLayout(layout.path)


def test_layout_when_directory_is_missing_then_an_os_error_is_raised(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal:
        OciLayout(tmp_path / "none")
    assert refusal.value.filename == str(tmp_path / "none") or refusal.value.filename == (
        tmp_path / "none"
    )
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((FormatError, NotADirectoryError)):
        OciLayout(tmp_path / "file")


def test_layout_when_directory_has_other_files_then_it_is_not_written(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FormatError, match=r"nor empty \(found thesis\.tex\)$"):
        OciLayout(tmp_path, write=True)


# Writing


def test_layout_when_opened_for_reading_then_every_write_is_refused(layout, image):
    descriptor = image.put(layout, "t")
    store = OciLayout(layout.path)
    for call in (
        lambda: store.put_blob(b""),
        lambda: store.take_over(descriptor, layout.origin),
        lambda: store.put_manifest(image.manifest, OCI_MANIFEST),
        lambda: store.tag(descriptor, "u"),
    ):
        with pytest.raises(UnsupportedError, match="not opened for writing"):
            call()


def test_layout_when_opened_for_writing_then_created_with_the_first_blob(tmp_path):
    with OciLayout(tmp_path / "D", write=True):
        pass
    assert not (tmp_path / "D").exists()


@pytest.mark.parametrize(
    "promise", [{"digest": Digest("0" * 64)}, {"size": 4}, {"size": 6}, {"size": 0}]
)
def test_put_blob_when_digest_or_size_differs_then_nothing_is_left(layout, promise):
    with pytest.raises(VerificationError):
        layout.put_blob(iter([b"12", b"345"]), **promise)
    assert names_in(layout) == ["blobs"]
    assert list((layout.path / "blobs" / "sha256").iterdir()) == []


def test_put_blob_when_source_raises_then_nothing_is_left(layout):
    def source():
        yield b"x"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layout.put_blob(source())
    assert names_in(layout) == ["blobs"]


def test_put_blob_when_blob_exists_then_the_source_is_read_to_its_end(layout):
    first = layout.put_blob(b"abc")
    seen = []

    def source():
        for piece in (b"a", b"bc"):
            seen.append(piece)
            yield piece

    again = layout.put_blob(source(), digest=first.digest, size=3)
    assert (again, seen) == (first, [b"a", b"bc"])
    with pytest.raises(VerificationError):
        layout.put_blob(b"abX", digest=first.digest, size=3)


def test_put_blob_when_a_truncated_one_exists_then_it_is_replaced(layout):
    first = layout.put_blob(b"abc")
    blob_path(layout, first.digest).write_bytes(b"ab")
    layout.put_blob(b"abc", digest=first.digest, size=3)
    assert b"".join(layout.blob(first)) == b"abc"


def test_put_manifest_when_not_a_manifest_then_it_is_refused(layout):
    for data in (b"", b"[]", b'{"schemaVersion":2}', b" " * (5 << 20)):
        with pytest.raises(FormatError):
            layout.put_manifest(data, OCI_MANIFEST)
    assert not layout.path.exists()


def test_tag_when_it_exists_then_it_moves_and_the_old_entry_is_removed(layout, image):
    image.put(layout, "t")
    other = make_image({"other": b""}).put(layout)
    layout.tag(other, "t")
    assert layout.resolve("t").digest == other.digest
    assert len(json.loads((layout.path / "index.json").read_bytes())["manifests"]) == 1


def test_tag_when_manifest_is_missing_or_name_is_invalid_then_refused(layout, image):
    with pytest.raises(NotFoundError, match="cannot be tagged"):
        layout.tag(image.descriptor, "t")
    descriptor = image.put(layout)
    with pytest.raises(FormatError, match="tag"):
        layout.tag(descriptor, "bad tag")


def test_index_when_changed_then_fields_of_other_tools_are_kept(layout, image):
    image.put(layout, "t")
    edit_index(layout, lambda d: d.update({"x": [1.5], "annotations": {"k": "<v>"}}))
    edit_index(layout, lambda d: d["manifests"][0].update(y="z"))
    make_image({"z": b""}).put(layout, "u")
    document = json.loads((layout.path / "index.json").read_bytes())
    assert document["x"] == [1.5]
    assert document["annotations"] == {"k": "<v>"}
    assert document["manifests"][0]["y"] == "z"
    assert layout.tags() == ["t", "u"]


def test_take_over_when_the_source_is_a_layout_then_no_bytes_are_copied(layout, image, tmp_path):
    image.put(layout, "t")
    target = OciLayout(tmp_path / "E", write=True)
    layer = image.layer_descriptors[0]
    takeover = target.take_over(layer, layout.origin)
    assert not target.path.exists()
    assert takeover.verify_and_finish() == TakenOver()
    assert takeover.finish() == TakenOver()
    assert target.take_over(layer, layout.origin) == TakenOver()
    assert target.take_over(layer, Nowhere()) == TakenOver()
    assert blob_path(target, layer.digest).samefile(blob_path(layout, layer.digest))
    for missing in (replace(layer, digest=Digest("0" * 64)), replace(layer, size=1)):
        takeover = target.take_over(missing, layout.origin)
        assert takeover.verify_and_finish() == takeover.finish() == MustStream()


def test_take_over_when_on_another_file_system_then_it_must_be_streamed(
    layout, image, tmp_path, monkeypatch
):
    image.put(layout, "t")
    layer = image.layer_descriptors[0]
    target = OciLayout(tmp_path / "not/there/yet", write=True)
    assert target.origin.device == layout.origin.device
    assert isinstance(target.take_over(layer, layout.origin), MustVerify)
    devices = {layout.path: 1, target.path: 2}
    monkeypatch.setattr(OciLayout, "_device", lambda self: devices[self.path])
    assert target.take_over(layer, layout.origin) == MustStream()


def test_prepare_when_a_blob_will_be_linked_then_it_is_only_flushed(
    layout, image, tmp_path, monkeypatch
):
    image.put(layout, "t")
    layer = image.layer_descriptors[0]
    flushed = []
    monkeypatch.setattr("tocsin.stores.layout.sync_file", flushed.append)
    target = OciLayout(tmp_path / "E", write=True)
    target.take_over(layer, layout.origin).prepare()
    assert flushed == [blob_path(layout, layer.digest)]
    assert not target.path.exists()


def test_prepare_when_the_blob_is_missing_then_no_error(layout, image, tmp_path):
    target = OciLayout(tmp_path / "E", write=True)
    target.take_over(image.layer_descriptors[0], layout.origin).prepare()


def test_take_over_when_the_source_is_damaged_then_verifying_refuses_it(layout, image, tmp_path):
    image.put(layout, "t")
    layer = image.layer_descriptors[0]
    damaged = bytearray(image.layers[0])
    damaged[-1] ^= 1
    blob_path(layout, layer.digest).write_bytes(damaged)
    target = OciLayout(tmp_path / "E", write=True)
    with pytest.raises(VerificationError) as caught:
        target.take_over(layer, layout.origin).verify_and_finish()
    with pytest.raises(VerificationError) as expected:
        list(layout.blob(layer))
    assert str(caught.value) == str(expected.value)
    assert not target.has_blob(layer)


def test_take_over_when_a_truncated_blob_exists_then_it_must_be_streamed(layout, image, tmp_path):
    image.put(layout, "t")
    layer = image.layer_descriptors[0]
    target = OciLayout(tmp_path / "E", write=True)
    target.put_blob(image.layers[0])
    blob_path(target, layer.digest).write_bytes(b"torn")
    assert target.take_over(layer, layout.origin).finish() == MustStream()


def test_take_over_when_links_are_impossible_then_it_must_be_streamed(
    layout, image, tmp_path, monkeypatch
):
    image.put(layout, "t")

    def refuse(*_):
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    target = OciLayout(tmp_path / "E", write=True)
    takeover = target.take_over(image.layer_descriptors[0], layout.origin)
    assert takeover.finish() == takeover.verify_and_finish() == MustStream()


# Referrers


def test_referrers_when_a_manifest_has_a_subject_then_listed_untagged(layout, image):
    subject = image.put(layout, "t")
    layout.put_blob(b"{}")
    data = referrer_to(subject, "application/x.soci")
    put = layout.put_manifest(data, OCI_MANIFEST)
    layout.put_manifest(data, OCI_MANIFEST)
    entries = json.loads((layout.path / "index.json").read_bytes())["manifests"]
    assert len(entries) == 2
    assert "annotations" not in entries[1]
    assert entries[1]["artifactType"] == "application/x.soci"
    (found,) = layout.referrers(subject.digest)
    assert (found.digest, found.artifact_type) == (put.digest, "application/x.soci")
    assert found.annotations == {"made-by": "test"}
    assert layout.referrers(subject.digest, "application/x.soci") == [found]
    assert layout.referrers(subject.digest, "other") == []
    assert layout.referrers(put.digest) == []


def test_resolve_when_the_other_entry_is_a_referrer_then_no_tag_is_needed(layout, image):
    subject = image.put(layout, "t")
    layout.put_blob(b"{}")
    layout.put_manifest(referrer_to(subject, "a/b"), OCI_MANIFEST)
    edit_index(layout, lambda d: d["manifests"][1].pop("artifactType"))
    assert layout.resolve(None).digest == subject.digest


def test_referrers_when_listed_only_by_the_fallback_tag_then_found(layout, image):
    subject = image.put(layout, "t")
    layout.put_blob(b"{}")
    data = referrer_to(subject, "a/b")
    put = layout.put_blob(data, media_type=OCI_MANIFEST)
    listed = replace(put, artifact_type="a/b")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [write_descriptor(listed)]}
    layout.put_manifest(json.dumps(index).encode(), OCI_INDEX, tag=f"sha256-{subject.digest.hex}")
    assert layout.referrers(subject.digest, "a/b") == [listed]


def test_referrers_when_an_entry_is_missing_or_unknown_then_it_is_skipped(layout, image):
    subject = image.put(layout, "t")
    absent = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1}
    odd = {"mediaType": "application/odd", "digest": str(subject.digest), "size": subject.size}
    edit_index(layout, lambda d: d["manifests"].extend([absent, odd]))
    assert layout.referrers(subject.digest) == []


# Several writers


def test_tag_when_many_writers_race_then_no_entry_is_lost(layout, image):
    descriptor = image.put(layout, "base")
    failures = []

    def write(number):
        try:
            mine = OciLayout(layout.path, write=True)
            mine.put_blob(b"%d" % number * 1000)
            mine.tag(descriptor, f"t{number}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(layout.tags()) == {"base", *(f"t{n}" for n in range(24))}
    assert names_in(layout) == ["blobs", "index.json", "oci-layout"]


def test_layout_when_created_by_many_writers_then_no_entry_is_lost(tmp_path):
    images = [make_image({str(n): b""}) for n in range(12)]
    barrier = threading.Barrier(len(images))

    def write(number):
        barrier.wait()
        images[number].put(OciLayout(tmp_path / "D", write=True), f"t{number}")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    layout = OciLayout(tmp_path / "D")
    assert len(layout.tags()) == len(images)
    assert (layout.path / "oci-layout").read_bytes() == LAYOUT_FILE

import bz2
import gzip
import io
import json
import lzma
import tarfile

import pytest

from support.images import layer_tar, make_image
from tocsin.errors import FormatError, NotFoundError, UnsupportedError, VerificationError
from tocsin.model.digest import Digest
from tocsin.model.image_config import ImageConfig
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.reference import DockerArchiveReference
from tocsin.stores import unpacked
from tocsin.stores.archive import OciArchive
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.docker_archive import DockerArchive, open_docker_archive
from tocsin.stores.layout import OciLayout
from tocsin.stores.places import reference_of

LAYERS = [layer_tar({"a": b"1"}), layer_tar({"b": b"2" * 999})]


def save(path, images, *, extra=(), links=None):
    """Write a docker archive in the old format.

    Args:
        images: list of (tags, layers as bytes); gzip layers have the diff id of their tar.
        extra: list of (name, bytes) before manifest.json; of equal names, the last one wins.
        links: targets of symbolic links by name.
    """
    document = []
    with tarfile.open(path, "w") as tar:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for tags, layers in images:
            plain = [gzip.decompress(x) if x[:2] == b"\x1f\x8b" else x for x in layers]
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(x)) for x in plain]},
                }
            ).encode()
            names = [f"{Digest.of(x).hex}.tar" for x in layers]
            for name, layer in zip(names, layers, strict=True):
                add(name, layer)
            add(f"{Digest.of(config).hex}.json", config)
            document.append(
                {"Config": f"{Digest.of(config).hex}.json", "RepoTags": tags, "Layers": names}
            )
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
            document[0]["Layers"] = list(links)
        add("manifest.json", json.dumps(document).encode())
        for name, data in extra:
            add(name, data)
    return path


def test_old_format_when_opened_then_it_has_a_manifest_of_plain_tar_layers(tmp_path):
    archive = open_docker_archive(save(tmp_path / "d", [(["x:1"], LAYERS)]))
    assert isinstance(archive, DockerArchive)
    descriptor = archive.resolve("docker.io/library/x:1")
    assert descriptor.digest == archive.resolve(None).digest == archive.resolve("@0").digest
    manifest = Manifest.from_json(archive.manifest(descriptor))
    assert [d.media_type for d in manifest.layers] == [OCI_LAYER, OCI_LAYER]
    assert [d.digest for d in manifest.layers] == [Digest.of(x) for x in LAYERS]
    for layer, data in zip(manifest.layers, LAYERS, strict=True):
        assert b"".join(archive.blob(layer)) == data
        assert archive.blob_range(layer, 5, 9) == data[5:9]
    assert manifest.config.media_type == OCI_CONFIG
    config = ImageConfig.from_json(b"".join(archive.blob(manifest.config)))
    assert config.diff_ids == tuple(Digest.of(x) for x in LAYERS)
    assert archive.tags() == ["x:1"]
    archive.close()


def test_old_format_when_copied_to_a_layout_then_the_image_is_complete(tmp_path):
    archive = open_docker_archive(save(tmp_path / "d", [(["x:1"], LAYERS)]))
    data = archive.manifest(archive.resolve(None))
    layout = OciLayout(tmp_path / "D", write=True)
    with OciArchive(tmp_path / "o.tar", write=True) as other:
        for descriptor in (Manifest.from_json(data).config, *Manifest.from_json(data).layers):
            assert layout.take_over(descriptor, archive.origin) == MustStream()
            layout.put_blob(archive.blob(descriptor), digest=descriptor.digest)
            assert other.take_over(descriptor, archive.origin) == TakenOver()
        layout.put_manifest(data, OCI_MANIFEST, tag="t")
        other.put_manifest(data, OCI_MANIFEST, tag="t")
    assert layout.resolve("t").digest == archive.resolve(None).digest


def test_old_format_when_layers_are_symlinks_then_they_are_followed(tmp_path):
    names = [f"{Digest.of(x).hex}.tar" for x in LAYERS]
    links = {f"{n}/layer.tar": f"../{name}" for n, name in enumerate(names)}
    archive = open_docker_archive(save(tmp_path / "d", [(["x:1"], LAYERS)], links=links))
    manifest = Manifest.from_json(archive.manifest(archive.resolve(None)))
    assert [d.digest for d in manifest.layers] == [Digest.of(x) for x in LAYERS]


def test_old_format_when_a_layer_is_gzip_then_its_own_digest_names_it(tmp_path):
    zipped = gzip.compress(LAYERS[0], mtime=0)
    archive = open_docker_archive(save(tmp_path / "d", [(None, [zipped, LAYERS[1]])]))
    manifest = Manifest.from_json(archive.manifest(archive.resolve(None)))
    assert [d.media_type for d in manifest.layers] == [OCI_LAYER_GZIP, OCI_LAYER]
    assert b"".join(archive.blob(manifest.layers[0])) == zipped
    assert archive.tags() == []


def test_old_format_when_it_has_several_images_then_name_or_index_selects(tmp_path):
    archive = open_docker_archive(
        save(tmp_path / "d", [(["x:1", "y:2"], LAYERS[:1]), (["z:3"], LAYERS)])
    )
    assert archive.resolve("y:2").digest == archive.resolve("@0").digest
    assert archive.resolve("docker.io/library/z:3").digest == archive.resolve("@1").digest
    with pytest.raises(NotFoundError, match=r"contains 2 images.* x:1, y:2, z:3"):
        archive.resolve(None)
    with pytest.raises(NotFoundError, match='"@2"'):
        archive.resolve("@2")


def test_old_format_when_config_does_not_match_its_name_then_it_is_refused(tmp_path):
    path = save(tmp_path / "d", [(["x:1"], LAYERS)])
    with tarfile.open(path) as tar:
        config = next(n for n in tar.getnames() if n.endswith(".json") and n != "manifest.json")
    path = save(tmp_path / "e", [(["x:1"], LAYERS)], extra=[(config, b"{}")])
    with pytest.raises(VerificationError, match="config"):
        open_docker_archive(path)


def test_old_format_when_a_layer_does_not_match_the_config_then_refused(tmp_path):
    name = f"{Digest.of(LAYERS[0]).hex}.tar"
    path = save(tmp_path / "d", [(["x:1"], LAYERS)], extra=[(name, LAYERS[1])])
    archive = open_docker_archive(path)
    manifest = Manifest.from_json(archive.manifest(archive.resolve(None)))
    with pytest.raises(VerificationError, match="wrong digest"):
        list(archive.blob(manifest.layers[0]))


@pytest.mark.parametrize(
    ("document", "kind", "says"),
    [
        (b"{}", FormatError, "images: found object, expected array"),
        (b"[1]", FormatError, "found number, expected object"),
        (b"[", FormatError, "invalid JSON"),
        (b'[{"Config":"none.json"}]', NotFoundError, "member none.json: not found"),
        (b'[{"Config":"a; b\\u001b"}]', NotFoundError, r'member "a; b\\x1b": not found$'),
        (b'[{"Config":"../../etc/passwd"}]', NotFoundError, "member etc/passwd: not found"),
        (b'[{"Config":"manifest.json"}]', FormatError, "found a JSON array"),
        (b'[{"Config":"c","Layers":["x"]}]', FormatError, "lists 0 diff ids"),
    ],
)
def test_old_format_when_manifest_json_is_bad_then_it_is_refused(tmp_path, document, kind, says):
    extra = [("manifest.json", document), ("c", b"{}")]
    with pytest.raises(kind, match=says):
        open_docker_archive(save(tmp_path / "d", [(["x:1"], LAYERS)], extra=extra))


def test_old_format_when_empty_or_without_manifest_json_then_refused(tmp_path):
    archive = open_docker_archive(save(tmp_path / "d", []))
    with pytest.raises(NotFoundError, match="contains no images"):
        archive.resolve(None)
    assert not hasattr(archive, "put_blob")
    (tmp_path / "e").write_bytes(layer_tar({"a": b""}))
    with pytest.raises(FormatError, match=r"manifest\.json is missing"):
        open_docker_archive(tmp_path / "e")
    with pytest.raises(FormatError, match="not an OCI archive") as caught:
        OciArchive(tmp_path / "d")
    assert caught.value.hint == "Write its name as docker-archive:FILE."


def zstd(data):
    """Return a zstd frame of raw blocks. Source: RFC 8878 §3.1.1."""
    blocks = [data[at : at + (1 << 16)] for at in range(0, len(data), 1 << 16)]
    frame = b"\x28\xb5\x2f\xfd\x00\x58"
    for number, block in enumerate(blocks, 1):
        header = len(block) << 3 | (number == len(blocks))
        frame += header.to_bytes(3, "little") + block
    return frame


def gzip_twice(data):
    return gzip.compress(data[:700]) + gzip.compress(data[700:]) + bytes(512)


@pytest.mark.parametrize("compress", [gzip.compress, gzip_twice, zstd])
def test_old_format_when_compressed_then_it_is_read(tmp_path, compress):
    plain = save(tmp_path / "d", [(["x:1"], LAYERS)])
    path = tmp_path / "d.tar.gz"
    path.write_bytes(compress(plain.read_bytes()))
    with open_docker_archive(path) as archive, open_docker_archive(plain) as other:
        assert archive.tags() == ["x:1"]
        assert archive.resolve(None) == other.resolve(None)
        manifest = Manifest.from_json(archive.manifest(archive.resolve(None)))
        for layer, data in zip(manifest.layers, LAYERS, strict=True):
            assert b"".join(archive.blob(layer)) == data
            assert archive.blob_range(layer, 5, 9) == data[5:9]
        with OciArchive(tmp_path / "o.tar", write=True) as copy:
            for descriptor in manifest.layers:
                assert copy.take_over(descriptor, archive.origin) == TakenOver()
    assert reference_of(path) == DockerArchiveReference(path)


def test_new_format_when_compressed_then_it_is_read(tmp_path):
    image = make_image({"a": b"x"})
    with OciArchive(tmp_path / "d", write=True) as archive:
        image.put(archive, "1")
    path = tmp_path / "d.tar.gz"
    path.write_bytes(gzip.compress((tmp_path / "d").read_bytes()))
    with open_docker_archive(path) as archive:
        assert archive.manifest(archive.resolve(None)) == image.manifest


@pytest.mark.parametrize(("compress", "tool"), [(lzma.compress, "unxz"), (bz2.compress, "bunzip2")])
def test_archive_when_compression_is_unsupported_then_it_is_named(tmp_path, compress, tool):
    path = tmp_path / "f"
    path.write_bytes(compress(save(tmp_path / "d", [(["x:1"], LAYERS)]).read_bytes()))
    name = {"unxz": "xz", "bunzip2": "bzip2"}[tool]
    with pytest.raises(UnsupportedError, match=f"compressed with {name}, expected a") as caught:
        open_docker_archive(path)
    assert tool in caught.value.hint


@pytest.mark.parametrize("cut", [30, 700, 4000])
@pytest.mark.parametrize("compress", [lambda data: gzip.compress(data, 0), zstd])
def test_archive_when_compressed_and_truncated_then_it_is_refused(tmp_path, compress, cut):
    path = tmp_path / "f"
    path.write_bytes(compress(save(tmp_path / "d", [(["x:1"], LAYERS)]).read_bytes())[:cut])
    with pytest.raises(FormatError, match="damaged") as caught:
        open_docker_archive(path)
    assert caught.value.what == "archive"


def test_archive_when_its_checksum_is_wrong_then_it_is_refused(tmp_path):
    data = gzip.compress(save(tmp_path / "d", [(["x:1"], LAYERS)]).read_bytes())
    (tmp_path / "f").write_bytes(data[:-8] + bytes(4) + data[-4:])
    with pytest.raises(FormatError, match="damaged gzip stream: invalid data or checksum"):
        open_docker_archive(tmp_path / "f")


def test_archive_when_it_unpacks_to_too_many_bytes_then_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "FREE_SIZE", 1 << 20)
    (tmp_path / "f").write_bytes(gzip.compress(bytes(8 << 20)))
    with pytest.raises(FormatError, match="unpack to more than") as caught:
        open_docker_archive(tmp_path / "f")
    assert "gunzip" in caught.value.hint


def test_old_format_when_links_are_relative_to_the_root_then_followed(tmp_path):
    names = [f"{Digest.of(x).hex}.tar" for x in LAYERS]
    links = {f"{n}/layer.tar": name for n, name in enumerate(names)}
    archive = open_docker_archive(save(tmp_path / "d", [(["x:1"], LAYERS)], links=links))
    manifest = Manifest.from_json(archive.manifest(archive.resolve(None)))
    assert [d.digest for d in manifest.layers] == [Digest.of(x) for x in LAYERS]


def test_new_format_when_opened_then_the_images_own_manifest_is_read(tmp_path):
    image = make_image({"a": b"x"})
    with OciArchive(tmp_path / "d", write=True) as archive:
        image.put(archive, "1")
    with tarfile.open(tmp_path / "d", "a") as tar:
        document = json.dumps([{"Config": "blobs/sha256/x", "RepoTags": ["x:1"]}]).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(document)
        tar.addfile(info, io.BytesIO(document))
    archive = open_docker_archive(tmp_path / "d")
    assert archive.name.startswith("docker-archive:")
    assert archive.manifest(archive.resolve(None)) == image.manifest
    assert archive.resolve("@0").digest == image.descriptor.digest

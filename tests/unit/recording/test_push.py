"""Access logs beside an image: pushed to every kind of store, found, merged, replaced, removed."""

import gzip
import json

import pytest

import tocsin
from support.cli_in_process import tocsin as cli
from support.images import make_image, put_index
from support.registry import Registry
from tocsin.errors import FormatError, NotFoundError, UnsupportedError
from tocsin.images.access_logs import (
    access_logs_of,
    load_access_log,
    newest_access_log,
    read_access_log,
)
from tocsin.model import access_log, access_log_manifest
from tocsin.model.access_log import AccessedFile, AccessLog
from tocsin.model.access_log_manifest import (
    ACCESS_LOG,
    ACCESS_LOG_GZIP,
    AccessLogManifest,
    compress,
    decompress,
)
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_EMPTY, OCI_MANIFEST
from tocsin.model.platform import Platform
from tocsin.recording.push import push_access_log
from tocsin.stores.opening import open_sink, open_source
from tocsin.stores.places import reference_of

IMAGE = make_image({"a": b"hello", "b": b"world"})


def log_of(*files, image=IMAGE.descriptor.digest, platform=None):
    return AccessLog(tuple(AccessedFile(*each) for each in files), image, platform, "tocsin 0")


LOG = log_of((0.5, "a", ((0, 5),)))
OTHER = log_of((0.25, "b", ((1, 3),)))


@pytest.fixture
def registry():
    with Registry() as registry:
        yield registry


@pytest.fixture(params=["layout", "archive", "registry", "registry with referrers"])
def place(request, tmp_path, registry):
    registry.referrers_api = registry.oci_subject = request.param.endswith("referrers")
    name = {
        "layout": f"oci:{tmp_path}/layout:1",
        "archive": f"oci-archive:{tmp_path}/image.tar:1",
    }.get(request.param, f"{registry.host}/app:1")
    with open_sink(reference_of(name)) as sink:
        IMAGE.put(sink, "1")
    return name


def skip_archive(place):
    if "archive" in place:
        pytest.skip("manifests of an archive cannot be deleted")


def newest(place, subject=IMAGE.descriptor.digest):
    with open_source(reference_of(place)) as store:
        return newest_access_log(store, subject)


def found_in(place):
    with open_source(reference_of(place)) as store:
        return access_logs_of(store, IMAGE.descriptor.digest)


def test_push_when_store_has_no_log_then_mounts_find_it(place):
    assert newest(place) is None
    pushed = push_access_log(place, LOG)
    assert newest(place) == (pushed.manifest.digest, LOG)
    assert pushed.subject == IMAGE.descriptor
    assert (pushed.log, pushed.removed, pushed.kept, pushed.unchanged) == (LOG, (), (), False)
    assert pushed.platform == Platform("linux", "amd64")


def test_push_when_store_has_a_log_then_merged_and_the_earlier_is_removed(place):
    first = push_access_log(place, LOG)
    second = push_access_log(place, OTHER)
    # Manifests of an archive cannot be deleted.
    assert (second.kept if "archive" in place else second.removed) == (first.manifest,)
    assert second.log == AccessLog.merged([LOG, OTHER])
    assert newest(place) == (second.manifest.digest, second.log)
    assert [each.digest for each in found_in(place) if each.taken] == [second.manifest.digest]


def test_push_when_replacing_then_the_earlier_log_is_dropped(place):
    push_access_log(place, LOG)
    assert push_access_log(place, OTHER, replace=True).log == OTHER
    assert newest(place)[1] == OTHER


def test_push_when_the_log_is_there_then_nothing_is_written(place):
    first = push_access_log(place, LOG)
    again = push_access_log(place, LOG)
    assert (again.manifest, again.unchanged, again.removed) == (first.manifest, True, ())
    assert len(found_in(place)) == 1


def test_push_when_done_then_the_image_is_unchanged_and_opens(place):
    before = tocsin.resolve(place)
    push_access_log(place, LOG)
    assert tocsin.resolve(place) == before
    with tocsin.open(place) as image:
        assert image.cat("a") == b"hello"


def test_push_when_image_is_copied_then_the_log_is_copied(place, tmp_path):
    pushed = push_access_log(place, LOG)
    copied = tocsin.copy(place, f"oci:{tmp_path}/copy:1")
    assert [each.digest for each in copied.access_logs] == [pushed.manifest.digest]
    assert newest(f"oci:{tmp_path}/copy:1") == (pushed.manifest.digest, LOG)


def test_push_when_removed_then_no_log_is_found(place):
    skip_archive(place)
    pushed = push_access_log(place, LOG)
    (removed,) = tocsin.remove_indexes(place)
    assert removed.digest == pushed.manifest.digest
    assert newest(place) is None


def test_push_when_removed_by_its_digest_then_no_log_is_found(place):
    skip_archive(place)
    pushed = push_access_log(place, LOG)
    name = place.removesuffix(":1")
    tocsin.remove_indexes(f"{name}@{pushed.manifest.digest}")
    assert newest(place) is None


def test_indexes_when_image_has_a_log_then_listed_as_used(place):
    pushed = push_access_log(place, LOG)
    (platform,) = tocsin.indexes(place).platforms
    (found,) = platform.access_logs
    document = found.to_dict()
    assert document["created"].endswith("Z")
    del document["created"]
    assert document == {
        "digest": str(pushed.manifest.digest),
        "media_type": OCI_MANIFEST,
        "manifest_size": pushed.manifest.size,
        "size": pushed.blob.size,
        "problem": None,
        "taken": True,
        "reason": "it refers to the image",
    }


def test_push_when_registry_cannot_delete_then_the_newest_is_used(registry):
    registry.referrers_api = registry.oci_subject = True
    with open_sink(reference_of(f"{registry.host}/app:1")) as sink:
        IMAGE.put(sink, "1")
    place = f"{registry.host}/app:1"
    put_old(place, compress(LOG), created="2020-01-01T00:00:00Z")
    registry.fault("DELETE", "/manifests/", status=405, times=100)
    pushed = push_access_log(place, OTHER, replace=True)
    assert [each.digest for each in pushed.kept]
    assert newest(place) == (pushed.manifest.digest, OTHER)
    first, second = found_in(place)
    assert (first.digest, first.taken) == (pushed.manifest.digest, True)
    assert (second.taken, second.reason) == (False, "another access log is newer")


def test_push_when_an_earlier_log_is_from_the_future_then_the_new_is_newer(layout):
    put_old(layout, b"damaged", created="not a time")
    put_old(layout, compress(LOG), created="2999-12-31T23:59:59Z")
    pushed = push_access_log(layout, OTHER)
    with open_source(reference_of(layout)) as store:
        assert b'"2999-12-31T23:59:59.000001Z"' in store.manifest(pushed.manifest)


def put_old(place, blob, *, created="", media_type=ACCESS_LOG_GZIP, layers=1, inline=b""):
    """Put an access log as another program could, and return its descriptor."""
    descriptor = Descriptor(media_type, Digest.of(blob), len(blob), data=inline)
    manifest = Manifest(
        Descriptor.of(b"{}", OCI_EMPTY),
        (descriptor,) * layers,
        media_type=OCI_MANIFEST,
        artifact_type=ACCESS_LOG,
        subject=IMAGE.descriptor,
        annotations={"org.opencontainers.image.created": created} if created else {},
    )
    with open_sink(reference_of(place)) as sink:
        sink.put_blob(b"{}")
        sink.put_blob(blob)
        return sink.put_manifest(manifest.to_json(), OCI_MANIFEST)


@pytest.fixture
def layout(tmp_path):
    with open_sink(reference_of(f"oci:{tmp_path}/layout:1")) as sink:
        IMAGE.put(sink, "1")
    return f"oci:{tmp_path}/layout:1"


def test_log_when_another_program_compressed_it_then_read(layout):
    put = put_old(layout, gzip.compress(LOG.to_bytes(), 1))
    assert newest(layout) == (put.digest, LOG)


def test_log_when_the_embedded_bytes_are_others_then_the_blob_is_read(layout):
    put = put_old(layout, compress(LOG), inline=compress(OTHER))
    assert newest(layout) == (put.digest, LOG)


@pytest.mark.parametrize(
    ("blob", "changes", "problem"),
    [
        (b"not gzip", {}, "invalid gzip data"),
        (gzip.compress(LOG.to_bytes())[:-4], {}, "found incomplete gzip data"),
        (compress(LOG) + compress(LOG), {}, "found incomplete gzip data, or data after its end"),
        (gzip.compress(b"{}"), {}, "format: found"),
        (compress(LOG), {"media_type": "text/plain"}, "unexpected media type"),
        (compress(LOG), {"layers": 2}, "found 2 blobs, expected 1"),
    ],
    ids=["text", "cut", "twice", "json", "type", "blobs"],
)
def test_log_when_it_is_damaged_then_the_next_one_is_used(layout, blob, changes, problem):
    good = put_old(layout, compress(LOG), created="2020-01-01T00:00:00Z")
    bad = put_old(layout, blob, created="2030-01-01T00:00:00Z", **changes)
    assert newest(layout) == (good.digest, LOG)
    with open_source(reference_of(layout)) as store, pytest.raises(FormatError, match=problem):
        read_access_log(store, load_access_log(store, bad))


def test_push_when_an_earlier_log_is_damaged_then_it_is_replaced(layout):
    bad = put_old(layout, b"not gzip")
    pushed = push_access_log(layout, LOG)
    assert [each.digest for each in pushed.removed] == [bad.digest]
    assert newest(layout)[1] == LOG


def test_log_when_it_inflates_to_too_much_then_format_error(monkeypatch):
    monkeypatch.setattr(access_log_manifest, "MAX_SIZE", 1 << 20)
    with pytest.raises(FormatError, match="too large"):
        decompress(gzip.compress(bytes(1 << 30), 1))


def test_manifest_when_the_blob_is_too_large_then_format_error(monkeypatch):
    blob = Descriptor(ACCESS_LOG_GZIP, Digest.of(b""), access_log.MAX_SIZE + 1)
    manifest = Manifest(
        Descriptor.of(b"{}", OCI_EMPTY), (blob,), OCI_MANIFEST, artifact_type=ACCESS_LOG
    )
    with pytest.raises(FormatError, match="too large"):
        AccessLogManifest.from_json(manifest.to_json())


def test_manifest_when_pushed_then_as_in_the_documentation(layout):
    pushed = push_access_log(layout, LOG)
    with open_source(reference_of(layout)) as store:
        document = json.loads(store.manifest(pushed.manifest))
        (blob,) = document["layers"]
        assert b"".join(store.blob(pushed.blob)) == compress(LOG)
    del document["annotations"], blob["data"]
    assert document == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.tocsin.access-log.v1",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            # Source: OCI image-spec 1.1.1, manifest.md, "Guidance for an Empty Descriptor".
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.tocsin.access-log.v1+gzip",
                "digest": str(pushed.blob.digest),
                "size": pushed.blob.size,
            }
        ],
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": str(IMAGE.descriptor.digest),
            "size": IMAGE.descriptor.size,
        },
    }


ARM = make_image({"a": b"arm"}, platform="linux/arm64")


@pytest.fixture
def platforms(tmp_path):
    name = f"oci:{tmp_path}/several:1"
    with open_sink(reference_of(name)) as sink:
        put_index(sink, {"linux/amd64": IMAGE, "linux/arm64": ARM}, "1")
    return name


@pytest.mark.parametrize(
    ("log", "asked", "expected"),
    [
        (log_of(image=ARM.descriptor.digest), None, ARM),
        (log_of(image=None, platform=Platform("linux", "arm64")), None, ARM),
        (log_of(image=ARM.descriptor.digest), "linux/amd64", IMAGE),
        (log_of(image=None), "linux/amd64", IMAGE),
    ],
    ids=["digest", "platform", "asked", "only-asked"],
)
def test_push_when_image_has_platforms_then_beside_the_right_one(platforms, log, asked, expected):
    pushed = push_access_log(platforms, log, platform=asked)
    assert pushed.subject.digest == expected.descriptor.digest
    assert newest(platforms, expected.descriptor.digest) is not None


def test_push_when_the_platform_is_unknown_then_error(platforms):
    with pytest.raises(UnsupportedError, match="does not say for which platform") as refusal:
        push_access_log(platforms, log_of(image=None))
    assert "--platform" in refusal.value.hint
    with pytest.raises(NotFoundError, match="no image for linux/s390x"):
        push_access_log(platforms, LOG, platform="linux/s390x")


def test_index_commands_when_image_has_a_log_then_shown_and_removed(layout, tmp_path):
    def run(*arguments):
        done = cli(*arguments, TOCSIN_CACHE_DIR=str(tmp_path / "cache"))
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    LOG.write(tmp_path / "app.log")
    out = run("record", layout, "--push", "--from", tmp_path / "app.log")
    first, second = out.splitlines()
    assert first.startswith("access log: 1 file, 5 B in 1 range, in 1 span of ")
    digest = second.split()[2]
    assert str(digest) == str(newest(layout)[0])
    listed = run("index", "ls", layout).splitlines()
    assert listed[2].split()[:3] == ["linux/amd64", "access", "log"]
    assert listed[-1] == f"{digest[:19]} is used: it refers to the image"
    assert run("index", "ls", "-q", layout) == f"{digest}\n"
    shown = run("index", "info", layout)
    assert "linux/amd64 · access log" in shown
    assert "  0.500 s  /a\n" in shown
    by_digest = f"{layout.removesuffix(':1')}@{digest}"
    assert "  0.500 s  /a\n" in run("index", "info", by_digest)
    document = json.loads(run("index", "info", "--json", by_digest))
    assert document["files"] == [{"time": 0.5, "path": "a", "ranges": [[0, 5]]}]
    assert document["image"] == str(IMAGE.descriptor.digest)
    assert run("copy", layout, f"oci:{tmp_path}/new:1").splitlines()[1] == f"access log {digest}"
    assert run("index", "rm", layout) == f"access log {digest}\n"
    assert newest(layout) is None

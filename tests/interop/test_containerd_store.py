"""containerd's image store as source and destination, with Debian's containerd and its ``ctr``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import tocsin
from support.cli_process import TOCSIN, environment
from support.containerd import containerd
from support.docs_image import put_images
from support.docs_pages import DOCS, Sandbox, blocks
from support.machine_image import GREETING, put_machine_image
from support.mounts import need_mounts
from support.registry_real import docker_registry, go_registry, program
from support.shell import Shell
from tocsin.errors import ContainerdError, NotFoundError, VerificationError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import parse_manifest
from tocsin.model.reference import parse_reference
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.containerd import client, open_containerd, upload
from tocsin.stores.layout import OciLayout
from tocsin.stores.opening import open_source

pytestmark = pytest.mark.interop

OWN = f"linux/{'arm64' if os.uname().machine == 'aarch64' else 'amd64'}"
OTHER = "linux/riscv64"
NAME = "r.example/team/app:1"
HERE = f"containerd:{NAME}"


@pytest.fixture
def daemon(place, monkeypatch):
    with running(place, monkeypatch) as daemon:
        yield daemon


@contextmanager
def running(place, monkeypatch):
    directory = place / "c"
    directory.mkdir(exist_ok=True)
    with containerd(directory) as daemon:
        monkeypatch.setenv("CONTAINERD_ADDRESS", str(daemon.socket))
        monkeypatch.delenv("CONTAINERD_NAMESPACE", raising=False)
        yield daemon


@pytest.fixture
def shell(place):
    (place / "home").mkdir()
    return Shell(place / "home")


@pytest.fixture
def layout(place):
    put_machine_image(place / "layout", size=2 << 20, layer_count=2)
    return f"oci:{place / 'layout'}:app"


def store(reference=HERE, *, write=False):
    return open_containerd(parse_reference(reference), write=write)


def index_digests(reference):
    return {
        str(one.descriptor.digest)
        for platform in tocsin.indexes(reference).platforms
        for one in platform.all_indexes
    }


# The pipeline of the reference: pull, create, push.


@pytest.mark.parametrize("registry", [docker_registry, go_registry])
def test_image_when_pulled_by_ctr_then_copied_away_with_its_indexes(
    registry, place, daemon, layout, shell
):
    skopeo = (program("skopeo"), "--insecure-policy", "copy", "--all", "--dest-tls-verify=false")
    (place / "r").mkdir()
    (place / "r2").mkdir()
    with registry(place / "r") as host, go_registry(place / "r2") as other:
        app = f"{host}/team/app:1"
        shell(*skopeo, layout, f"docker://{app}")
        daemon.checked("image", "pull", "--plain-http", "--all-platforms", app)
        shell(TOCSIN, "create", f"containerd:{app}", "--min-layer-size", "0")
        shell(TOCSIN, "copy", f"containerd:{app}", f"{other}/away/app:1")
        shell(TOCSIN, "create", layout, "--min-layer-size", "0")
        made = index_digests(layout)
        assert len(made) == 2
        assert index_digests(f"containerd:{app}") == index_digests(f"{other}/away/app:1") == made
        shell(TOCSIN, "verify", f"{other}/away/app:1")


# What containerd keeps.


def test_indexes_when_garbage_is_collected_then_kept_with_the_image(daemon, layout):
    tocsin.copy(layout, HERE)
    image = daemon.contents()
    made = tocsin.create(HERE, options=tocsin.IndexingOptions(min_layer_size=0, seek=True))
    assert len(made.platforms) == 2
    indexes = index_digests(HERE)
    assert len(indexes) == 4
    with_indexes = daemon.contents()
    assert with_indexes > image | indexes
    assert daemon.leases() == []
    daemon.collect_garbage()
    assert daemon.contents() == with_indexes
    # Pulling or tagging it again does not lose them.
    tocsin.copy(layout, HERE, force=True)
    daemon.checked("image", "tag", NAME, "r.example/other:1")
    daemon.checked("image", "rm", NAME)
    daemon.collect_garbage()
    assert daemon.contents() == with_indexes
    assert index_digests("containerd:r.example/other:1") == indexes

    daemon.checked("image", "rm", "r.example/other:1")
    daemon.collect_garbage()
    assert daemon.contents() == set()


def test_index_when_it_is_removed_then_its_blobs_go_and_the_image_stays(daemon, layout):
    tocsin.copy(layout, HERE)
    image = daemon.contents()
    tocsin.create(HERE, options=tocsin.IndexingOptions(min_layer_size=0))
    first, second = sorted(index_digests(HERE))
    tocsin.remove_indexes(HERE, indexes=first)
    daemon.collect_garbage()
    assert index_digests(HERE) == {second}
    tocsin.remove_indexes(f"containerd:r.example/team/app@{second}")
    daemon.collect_garbage()
    assert index_digests(HERE) == set()
    assert daemon.contents() == image


def test_image_when_converted_then_both_images_keep_what_they_list(daemon, layout):
    tocsin.copy(layout, HERE)
    tocsin.convert(
        HERE, f"{HERE}-soci", options=tocsin.IndexingOptions(min_layer_size=0, seek=True)
    )
    converted = daemon.contents()
    daemon.collect_garbage()
    assert daemon.contents() == converted
    assert tocsin.verify(f"{HERE}-soci").ok
    daemon.checked("image", "rm", NAME)
    daemon.collect_garbage()
    assert tocsin.verify(f"{HERE}-soci").ok
    daemon.checked("image", "rm", f"{NAME}-soci")
    daemon.collect_garbage()
    assert daemon.contents() == set()


def test_converted_image_when_it_is_in_containerd_then_it_runs(daemon, layout):
    tocsin.copy(layout, HERE)
    tocsin.convert(HERE, f"{HERE}-soci", options=tocsin.IndexingOptions(min_layer_size=0))
    ran = daemon.run(f"{NAME}-soci", "/bin/busybox", "echo", GREETING)
    assert ran.stdout == f"{GREETING}\n", ran.stderr


def test_copy_when_namespaces_share_blobs_then_nothing_is_streamed(daemon, layout):
    tocsin.copy(layout, HERE)
    tocsin.create(HERE, options=tocsin.IndexingOptions(min_layer_size=0))
    copied = tocsin.copy(HERE, f"containerd:k8s.io/{NAME}")
    assert copied.traffic.mounted > 2 << 20
    assert copied.traffic.blobs == 0
    assert daemon.contents("k8s.io") == daemon.contents()
    daemon.checked("image", "rm", NAME)
    daemon.collect_garbage()
    assert daemon.contents() == set()
    assert tocsin.verify(f"containerd:k8s.io/{NAME}").ok


def test_index_when_soci_stored_it_then_it_is_found_and_copied(place, daemon, layout):
    """The labels are those of soci-snapshotter 0.16.1, soci/soci_index.go."""
    tocsin.copy(layout, HERE)
    tocsin.create(layout, options=tocsin.IndexingOptions(min_layer_size=0))
    with open_source(parse_reference(layout)) as read, store(write=True) as sink:
        target = read.resolve("app")
        entry = parse_manifest(read.manifest(target), target.media_type).manifests[0]
        (index,) = read.referrers(entry.digest)
        manifest = parse_manifest(read.manifest(index), index.media_type)
        for blob in (manifest.config, *manifest.layers, index):
            sink.put_blob(b"".join(read.blob(blob)))
            daemon.checked(
                "content",
                "label",
                str(index.digest),
                "containerd.io/gc.root=now",
                f"containerd.io/gc.ref.content.config={manifest.config.digest}",
                *(
                    f"containerd.io/gc.ref.content.ztoc.{number}={blob.digest}"
                    for number, blob in enumerate(manifest.layers)
                ),
            ) if blob is index else None
    daemon.collect_garbage()
    assert index_digests(HERE) == {str(index.digest)}
    copied = tocsin.copy(HERE, f"oci:{place / 'out'}:1")
    assert [str(one.digest) for one in copied.soci_indexes] == [str(index.digest)]
    tocsin.remove_indexes(HERE)
    assert index_digests(HERE) == set()


def test_labels_when_other_programs_set_them_badly_then_they_are_ignored(daemon, layout):
    tocsin.copy(layout, HERE)
    tocsin.create(HERE, options=tocsin.IndexingOptions(min_layer_size=0))
    made = index_digests(HERE)
    with store(write=True) as sink:
        target = sink.resolve(NAME)
        (entry, *_) = parse_manifest(sink.manifest(target), target.media_type).manifests
        noise = sink.put_blob(b"{")
        prefix = "containerd.io/gc.ref.content"
        for name in ("tocsin.x", f"tocsin.{'a' * 64}", f"tocsin.{noise.digest.hex}"):
            daemon.checked("content", "label", str(entry.digest), f"{prefix}.{name}={noise.digest}")
        daemon.checked("content", "label", str(noise.digest), f"{prefix}.ztoc.0={noise.digest}")
    assert index_digests(HERE) == made


def test_mount_when_the_image_is_in_containerd_then_its_files_are_read(place, daemon, layout):
    need_mounts()
    tocsin.copy(layout, HERE)
    tocsin.create(HERE, options=tocsin.IndexingOptions(min_layer_size=0, seek=True))
    (place / "m").mkdir()
    with tocsin.mount(HERE, place / "m", cache_dir=place / "cache") as directory:
        assert (directory / "bin/busybox").read_bytes() == Path(program("busybox")).read_bytes()


# Images of which only a part exists.


def test_image_when_one_platform_was_pulled_then_it_is_indexed_and_read(
    place, daemon, layout, shell, caplog
):
    skopeo = (program("skopeo"), "--insecure-policy", "copy", "--all", "--dest-tls-verify=false")
    (place / "r").mkdir()
    with docker_registry(place / "r") as host:
        app = f"{host}/team/app:1"
        shell(*skopeo, layout, f"docker://{app}")
        daemon.checked("image", "pull", "--plain-http", app)
        other = next(one for one in tocsin.info(layout).platforms if str(one.platform) == OTHER)
        if str(other.manifest.digest) in daemon.contents():  # containerd 2 pulls all metadata
            daemon.checked("content", "rm", str(other.manifest.digest))
        made = tocsin.create(f"containerd:{app}", options=tocsin.IndexingOptions(min_layer_size=0))
        assert [str(one.platform) for one in made.platforms] == [OWN]
        assert f"not indexed, since they are missing from the store: {OTHER}" in caplog.text
        with tocsin.open(f"containerd:{app}") as image:
            assert image.cat("/bin/busybox") == Path(program("busybox")).read_bytes()
        # The whole image is in the registry, so its index can join it there.
        straight = tocsin.create(
            f"containerd:{app}",
            output=f"{app}",
            options=tocsin.IndexingOptions(min_layer_size=0),
        )
        assert straight.platforms[0].soci_index == made.platforms[0].soci_index
        assert index_digests(app) == index_digests(f"containerd:{app}")


def test_image_when_only_metadata_of_a_platform_exists_then_it_is_skipped(daemon, layout, caplog):
    """containerd 2 pulls the manifests of all platforms, but the layers of one."""
    tocsin.copy(layout, HERE)
    options = tocsin.IndexingOptions(min_layer_size=0)
    own = next(one for one in tocsin.info(layout).platforms if str(one.platform) == OWN)
    daemon.checked("content", "rm", str(own.layers[0].layer.digest))
    made = tocsin.create(HERE, options=options)
    assert [str(one.platform) for one in made.platforms] == [OTHER]
    assert f"missing from the store: {OWN}" in caplog.text
    converted = tocsin.convert(HERE, f"{HERE}-soci", options=options)
    assert [str(one.platform) for one in converted.platforms] == [OTHER]
    assert tocsin.verify(f"{HERE}-soci").ok
    with pytest.raises(NotFoundError, match="its platform was not pulled") as caught:
        tocsin.create(HERE, options=tocsin.IndexingOptions(min_layer_size=0, platforms=OWN))
    assert "ctr content fetch --all-platforms" in caught.value.hint


def test_layer_when_containerd_did_not_keep_it_then_there_is_a_hint(daemon, layout):
    tocsin.copy(layout, HERE)
    daemon.checked("content", "prune", "references")
    with pytest.raises(NotFoundError, match=r"blob sha256:[0-9a-f]{64}: not found") as caught:
        tocsin.create(HERE, options=tocsin.IndexingOptions(min_layer_size=0))
    assert "ctr content fetch --all-platforms" in caught.value.hint
    assert daemon.leases() == []


# Names.


def test_image_when_ctr_made_it_with_a_short_name_then_it_is_found(daemon, layout):
    tocsin.copy(layout, "containerd:app:1")
    assert daemon.checked("image", "ls", "-q").split() == ["docker.io/library/app:1"]
    daemon.checked("image", "tag", "docker.io/library/app:1", "short")
    daemon.checked("image", "rm", "docker.io/library/app:1")
    assert tocsin.resolve("containerd:short") == tocsin.resolve(layout)
    digest = tocsin.resolve(layout).digest
    assert tocsin.resolve(f"containerd:other@{digest}").digest == digest


def test_image_when_it_is_missing_then_the_error_names_where_it_is(daemon, layout, monkeypatch):
    tocsin.copy(layout, f"containerd:k8s.io/{NAME}")
    with pytest.raises(NotFoundError, match=r"it is in the namespace k8s\.io$"):
        tocsin.resolve(HERE)
    with pytest.raises(NotFoundError, match=r"team/ap:1 not found \(similar: r\.example/team/app"):
        tocsin.resolve("containerd:k8s.io/r.example/team/ap:1")
    monkeypatch.setenv("CONTAINERD_NAMESPACE", "k8s.io")
    assert tocsin.resolve(HERE) == tocsin.resolve(layout)
    with store() as source:
        assert source.tags() == [NAME]


def test_image_when_the_name_is_taken_then_only_force_replaces_it(daemon, layout):
    tocsin.copy(layout, HERE)
    daemon.checked("image", "label", NAME, "a=b")
    converted = "containerd:r.example/team/app:2"
    tocsin.convert(HERE, converted, options=tocsin.IndexingOptions(min_layer_size=0))
    with pytest.raises(tocsin.ConflictError, match="already exists as a different image"):
        tocsin.copy(converted, HERE)
    with pytest.raises(tocsin.ConflictError, match="is the source image"):
        tocsin.convert(HERE, HERE)
    tocsin.copy(converted, HERE, force=True)
    assert tocsin.resolve(HERE) == tocsin.resolve(converted)
    assert "a=b" in daemon.checked("image", "ls", f"name=={NAME}")


# The store itself.


def test_blob_when_written_then_read_back_whole_and_in_ranges(daemon):
    data = os.urandom(9 << 20)
    pieces = [data[at : at + 700_001] for at in range(0, len(data), 700_001)]
    with store(write=True) as sink:
        blob = sink.put_blob(iter(pieces))
        assert blob.digest == Digest.of(data)
        assert b"".join(sink.blob(blob)) == data
        for start, end in ((0, 0), (0, 1), (5, 9 << 20), ((9 << 20) - 1, 9 << 20)):
            assert sink.blob_range(blob, start, end) == data[start:end]
        with pytest.raises(ValueError, match="out of bounds"):
            sink.blob_range(blob, 0, len(data) + 1)
        empty = sink.put_blob(b"")
        assert list(sink.blob(empty)) == []
        # One that exists is read to its end, and not stored twice.
        again = iter(pieces)
        assert sink.put_blob(again, digest=blob.digest, size=blob.size).digest == blob.digest
        assert sink.put_blob(iter(pieces)).digest == blob.digest
        assert list(again) == []
        missing = Descriptor.of(b"missing", "x/y")
        with pytest.raises(NotFoundError):
            list(sink.blob(missing))
        with pytest.raises(NotFoundError):
            sink.blob_range(missing, 0, 1)
        with pytest.raises(VerificationError, match="wrong size"):
            list(sink.blob(Descriptor("x/y", blob.digest, blob.size - 1)))
        with pytest.raises(VerificationError, match="wrong size"):
            sink.blob_range(Descriptor("x/y", blob.digest, blob.size + 2), 1, blob.size + 2)
        assert sink.tags() == []
    assert daemon.leases() == []


def test_blob_when_its_file_is_damaged_then_reading_it_fails(place, daemon):
    with store(write=True) as sink:
        blob = sink.put_blob(b"x" * 100)
        (file,) = (place / "c" / "root").rglob(blob.digest.hex)
        file.chmod(0o600)
        file.write_bytes(b"y" * 100)
        with pytest.raises(VerificationError, match="wrong digest"):
            list(sink.blob(blob))


def test_blob_when_its_source_fails_then_nothing_is_stored(daemon):
    def broken():
        yield b"x" * (3 << 20)
        raise OSError(5, "broken")

    with store(write=True) as sink:
        with pytest.raises(OSError, match="broken"):
            sink.put_blob(broken())
        with pytest.raises(VerificationError, match="wrong digest"):
            sink.put_blob(iter([b"x"]), digest=Digest.of(b"y"))
        assert daemon.contents() == set()
        assert active(daemon) == []


def test_take_over_when_another_namespace_has_the_blob_then_it_is_shared(daemon):
    with store(write=True) as here, store("containerd:n/x", write=True) as there:
        blob = here.put_blob(b"shared")
        wrong = Descriptor("x/y", blob.digest, blob.size + 1)
        assert there.take_over(Descriptor.of(b"missing", "x/y"), here.origin) == MustStream()
        assert there.take_over(wrong, here.origin) == MustStream()
        assert not there.has_blob(blob)
        assert there.take_over(blob, here.origin) == TakenOver()
        assert b"".join(there.blob(blob)) == b"shared"
        assert there.take_over(blob, OciLayout(Path("/missing"), write=True).origin) == TakenOver()
        assert active(daemon) == active(daemon, "n") == []


def test_index_when_its_image_is_missing_then_it_is_refused(daemon, layout):
    tocsin.create(layout, options=tocsin.IndexingOptions(min_layer_size=0))
    with pytest.raises(NotFoundError, match="containerd would delete the index") as caught:
        tocsin.create(layout, output=HERE, options=tocsin.IndexingOptions(min_layer_size=0))
    assert caught.value.hint == "Pull the image, or name it as the destination."
    daemon.collect_garbage()
    assert daemon.contents() == set()


def test_dry_run_when_into_containerd_then_nothing_is_written(daemon, layout):
    options = tocsin.IndexingOptions(min_layer_size=0)
    tocsin.convert(layout, HERE, options=options, dry_run=True)
    assert daemon.contents() == set()
    assert daemon.leases() == []


# Failures.


def test_run_when_killed_then_its_lease_expires_with_its_blobs(daemon, layout):
    program_text = f"""
import os, signal
from tocsin.model.reference import parse_reference
from tocsin.stores.containerd import open_containerd, sink
from datetime import timedelta
sink._LEASE_DURATION = timedelta(seconds=2)
store = open_containerd(parse_reference("{HERE}"), write=True)
blob = store.put_blob(b"complete")
def pieces():
    yield b"x" * (4 << 20)
    yield b"x" * (4 << 20)
    yield b"x" * (4 << 20)
    yield b"x" * (4 << 20)
    os.kill(os.getpid(), signal.SIGKILL)
store.put_blob(pieces())
"""
    done = subprocess.run(  # noqa: S603 (this Python)
        [sys.executable, "-c", program_text], env=environment(), check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert daemon.contents() == {str(Digest.of(b"complete"))}  # the lease holds it
    assert len(daemon.leases()) == len(active(daemon)) == 1
    daemon.collect_garbage()
    assert daemon.contents() == {str(Digest.of(b"complete"))}
    time.sleep(2.5)
    daemon.collect_garbage()
    assert daemon.contents() == set()
    assert daemon.leases() == []
    tocsin.copy(layout, HERE)
    assert tocsin.resolve(HERE) == tocsin.resolve(layout)


def test_daemon_when_it_dies_midway_then_the_error_says_so(place, monkeypatch, layout):
    with running(place, monkeypatch) as daemon:
        tocsin.copy(layout, HERE)
        with store(write=True) as sink:

            def pieces():
                yield b"x" * (1 << 20)
                daemon.process.kill()
                daemon.process.wait()
                for _ in range(40):
                    yield b"x" * (1 << 20)

            with pytest.raises(ContainerdError, match="cannot connect to containerd at ") as caught:
                sink.put_blob(pieces())
            assert caught.value.code == "UNAVAILABLE"
            assert caught.value.temporary
            with pytest.raises(ContainerdError, match="nothing listens there"):
                sink.resolve(NAME)
            sink.close = lambda: None
        with pytest.raises(ContainerdError, match="nothing listens there") as caught:
            tocsin.resolve(HERE)
        assert "Start containerd" in caught.value.hint
    with running(place, monkeypatch):
        assert tocsin.resolve(HERE) == tocsin.resolve(layout)


def test_daemon_when_it_hangs_then_requests_time_out(daemon, monkeypatch):
    monkeypatch.setattr(client, "_TIMEOUT", 1)
    monkeypatch.setattr(upload, "_PATIENCE", 1)
    monkeypatch.setattr(upload, "_CLOSE_PATIENCE", 1)
    with store(write=True) as sink:
        blob = sink.put_blob(b"x")
        daemon.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            for call in (
                sink.tags,
                lambda: list(sink.blob(blob)),
                lambda: sink.put_blob(iter([b"y"])),
            ):
                with pytest.raises(ContainerdError, match="did not answer in time") as caught:
                    call()
                assert caught.value.code == "DEADLINE_EXCEEDED"
                assert caught.value.temporary
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        assert b"".join(sink.blob(blob)) == b"x"


def test_socket_when_it_cannot_be_used_then_the_error_says_why(place, monkeypatch):
    monkeypatch.setenv("CONTAINERD_ADDRESS", str(place / "none.sock"))
    with pytest.raises(ContainerdError, match="the socket does not exist") as caught:
        tocsin.resolve(HERE)
    assert "CONTAINERD_ADDRESS" in caught.value.hint


def active(daemon, namespace="default"):
    return daemon.checked("-n", namespace, "content", "active").splitlines()[1:]


def test_labels_when_containerd_pulled_the_image_then_they_are_the_same(
    place, daemon, layout, shell
):
    skopeo = (program("skopeo"), "--insecure-policy", "copy", "--all", "--dest-tls-verify=false")
    (place / "r").mkdir()
    with docker_registry(place / "r") as host:
        app = f"{host}/team/app:1"
        shell(*skopeo, layout, f"docker://{app}")
        tocsin.copy(app, f"containerd:other/{app}")
        daemon.checked("image", "pull", "--all-platforms", "--plain-http", app)
        ours, theirs = labels(daemon, "other"), labels(daemon)
        assert ours == theirs
        assert sum(map(len, ours.values())) == 2 + 4 + 2  # entries, layers, configs

        # Layers that were deleted can be fetched again, and indexes survive that.
        tocsin.create(f"containerd:{app}", options=tocsin.IndexingOptions(min_layer_size=0))
        before = index_digests(f"containerd:{app}")
        assert len(before) == 2
        complete = daemon.contents()
        daemon.checked("content", "prune", "references")
        assert complete - daemon.contents() == layers_of(layout)
        assert not tocsin.verify(f"containerd:{app}").ok
        daemon.checked("content", "fetch", "--all-platforms", "--plain-http", app)
        daemon.collect_garbage()
        assert index_digests(f"containerd:{app}") == before
        assert tocsin.verify(f"containerd:{app}").ok


def layers_of(reference):
    info = tocsin.info(reference)
    return {str(layer.layer.digest) for one in info.platforms for layer in one.layers}


def labels(daemon, namespace="default"):
    """Return the labels of garbage collection, by the digest of the blob that has them."""
    listed = {}
    for line in daemon.checked("-n", namespace, "content", "ls").splitlines()[1:]:
        digest, *_, text = line.split("\t")
        found = dict(re.findall(r"(containerd\.io/gc\.ref\.content[^=]+)=([^,]+)", text))
        if found:
            listed[digest] = found
    return listed


def test_page_when_its_commands_are_run_then_they_work_as_written(place, daemon, monkeypatch):
    put_images(place / "images")
    page = DOCS / "containerd-images.md"
    mine = [block for block in blocks(page) if Path(__file__).name in block.comment]
    assert len(mine) == 3
    with go_registry(place) as host:
        tocsin.copy(f"oci:{place / 'images'}:app", f"{host}/team/app:1")
        sandbox = Sandbox(place, host)
        for command in (command for block in mine for command in sandbox.run(block)):
            assert command.exit_code == 0, command.printed
        assert index_digests(f"{host}/pushed/app:1") == index_digests(f"{host}/team/app:1")
        assert tocsin.verify(f"{host}/team/app:1-soci").ok

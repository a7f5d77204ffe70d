"""A registry whose manifests are kept on disk, with a source that counts what it is asked."""

import pytest

from support.images import make_image
from tocsin.errors import AuthError, RegistryError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_CONFIG, OCI_LAYER_GZIP
from tocsin.mounting.remembered import RememberedSource

IMAGE = make_image()
CONFIG = Descriptor.of(IMAGE.config, OCI_CONFIG)


class FakeSource:
    """A repository with one image; `error` is raised by every request."""

    origin = "registry"

    def __init__(self):
        self.asked = []
        self.error = None
        self.closed = False

    def _ask(self, question):
        self.asked.append(question)
        if self.error is not None:
            raise self.error

    def resolve(self, selector, *, will_read=False):
        self._ask(f"resolve {selector}")
        return IMAGE.descriptor

    def manifest(self, descriptor):
        self._ask(f"manifest {descriptor.digest}")
        return IMAGE.manifest

    def blob(self, descriptor, *, verify=True):
        self._ask(f"blob {descriptor.digest}")
        yield IMAGE.config if descriptor.digest == CONFIG.digest else IMAGE.layers[0]

    def referrers(self, subject, artifact_type=None, *, lenient=False):
        self._ask("referrers")
        return [IMAGE.descriptor]

    def close(self):
        self.closed = True


@pytest.fixture
def inner():
    return FakeSource()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def remembered(tmp_path, inner, notes):
    tmp_path.chmod(0o700)
    return lambda: RememberedSource("docker://r/x", lambda: inner, tmp_path / "c", notes.append)


def test_manifest_when_read_twice_then_requested_once(remembered, inner):
    assert remembered().manifest(IMAGE.descriptor) == IMAGE.manifest
    assert remembered().manifest(IMAGE.descriptor) == IMAGE.manifest
    assert len(inner.asked) == 1


def test_digest_when_its_manifest_is_kept_then_resolved_without_a_request(remembered, inner):
    remembered().manifest(IMAGE.descriptor)
    inner.asked.clear()
    found = remembered().resolve(IMAGE.descriptor.digest, will_read=True)
    assert (found.digest, found.size) == (IMAGE.descriptor.digest, IMAGE.descriptor.size)
    assert found.media_type == IMAGE.descriptor.media_type
    assert inner.asked == []


def test_manifest_when_kept_file_is_damaged_then_requested_again(remembered, inner, tmp_path):
    remembered().manifest(IMAGE.descriptor)
    (path,) = (tmp_path / "c").rglob(IMAGE.descriptor.digest.hex)
    path.write_bytes(bytes(len(IMAGE.manifest)))
    assert remembered().manifest(IMAGE.descriptor) == IMAGE.manifest
    assert len(inner.asked) == 2


def test_config_when_read_twice_then_requested_once(remembered, inner):
    for _ in range(2):
        assert b"".join(remembered().blob(CONFIG)) == IMAGE.config
    assert len(inner.asked) == 1


def test_layer_when_read_twice_then_requested_twice(remembered, inner):
    layer = Descriptor.of(IMAGE.layers[0], OCI_LAYER_GZIP)
    for _ in range(2):
        assert b"".join(remembered().blob(layer)) == IMAGE.layers[0]
    assert len(inner.asked) == 2


def test_tag_when_registry_answers_then_asked_every_time(remembered, inner, notes):
    for _ in range(2):
        remembered().resolve("1")
    assert inner.asked == ["resolve 1"] * 2
    assert notes == []


def test_tag_when_registry_is_gone_then_last_answer_with_a_note(remembered, inner, notes):
    remembered().resolve("1")
    inner.error = RegistryError("gone", temporary=True)
    assert remembered().resolve("1").digest == IMAGE.descriptor.digest
    assert len(notes) == 1
    with pytest.raises(RegistryError):
        remembered().resolve("2")


@pytest.mark.parametrize("error", [AuthError("denied"), RegistryError("no", temporary=False)])
def test_tag_when_registry_refuses_then_error(remembered, inner, error):
    remembered().resolve("1")
    inner.error = error
    with pytest.raises(type(error)):
        remembered().resolve("1")


def test_referrers_when_registry_is_gone_then_last_answer(remembered, inner):
    subject = Digest.of(b"x")
    before = remembered().referrers(subject, "a/b")
    inner.error = RegistryError("gone", temporary=True)
    assert remembered().referrers(subject, "a/b") == before
    with pytest.raises(RegistryError):
        remembered().referrers(subject, "other")


def test_close_when_nothing_was_asked_then_repository_was_never_opened(remembered, inner):
    with remembered():
        pass
    assert not inner.closed


def test_cache_when_unusable_then_registry_is_asked(tmp_path, inner, notes):
    (tmp_path / "c").write_text("a file")
    source = RememberedSource("docker://r/x", lambda: inner, tmp_path / "c", notes.append)
    for _ in range(2):
        assert source.manifest(IMAGE.descriptor) == IMAGE.manifest
    assert len(inner.asked) == 2

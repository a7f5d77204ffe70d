import pytest

from support.images import make_image
from tocsin.errors import UnsupportedError
from tocsin.model.reference import parse_reference
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout
from tocsin.stores.opening import open_sink, open_source


@pytest.mark.parametrize(("transport", "kind"), [("oci", OciLayout), ("oci-archive", OciArchive)])
def test_open_when_written_before_then_the_selector_finds_the_image(tmp_path, transport, kind):
    reference = parse_reference(f"{transport}:{tmp_path / 'place'}:v1")
    image = make_image()
    with open_sink(reference) as store:
        assert isinstance(store, kind)
        image.put(store, reference.tag)
    with open_source(reference) as store:
        assert store.resolve(reference.selector).digest == image.descriptor.digest
        assert store.name == f"{transport}:{tmp_path / 'place'}"
    docker = parse_reference(f"docker-archive:{tmp_path / 'place'}")
    if transport == "oci-archive":
        with open_source(docker) as store:
            assert store.resolve(docker.selector).digest == image.descriptor.digest


def test_open_when_it_is_a_registry_then_no_request_is_sent():
    for opened in (open_source, open_sink):
        with opened(parse_reference("ubuntu")) as store:
            assert store.name == "docker://docker.io/library/ubuntu"


def test_open_sink_when_it_is_a_docker_archive_then_it_is_unsupported(tmp_path):
    with pytest.raises(UnsupportedError, match="is not supported"):
        open_sink(parse_reference(f"docker-archive:{tmp_path / 'x'}"))

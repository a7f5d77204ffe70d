import pytest

from support.images import make_image
from tocsin.errors import UnsupportedError
from tocsin.model.reference import parse_reference
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout
from tocsin.stores.opening import open_store


@pytest.mark.parametrize(("transport", "kind"), [("oci", OciLayout), ("oci-archive", OciArchive)])
def test_open_store_when_written_and_opened_again_then_the_selector_finds_the_image(
    tmp_path, transport, kind
):
    reference = parse_reference(f"{transport}:{tmp_path / 'place'}:v1")
    image = make_image()
    with open_store(reference, write=True) as store:
        assert isinstance(store, kind)
        image.put(store, reference.tag)
    with open_store(reference) as store:
        assert store.resolve(reference.selector).digest == image.descriptor.digest
        assert store.name == f"{transport}:{tmp_path / 'place'}"
    docker = parse_reference(f"docker-archive:{tmp_path / 'place'}")
    if transport == "oci-archive":
        with open_store(docker) as store:
            assert store.resolve(docker.selector).digest == image.descriptor.digest


def test_open_store_when_it_is_a_registry_then_nothing_is_asked_of_it_yet():
    with open_store(parse_reference("ubuntu")) as store:
        assert store.name == "docker://docker.io/library/ubuntu"


def test_open_store_when_a_docker_archive_is_to_be_written_then_it_is_unsupported(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be written"):
        open_store(parse_reference(f"docker-archive:{tmp_path / 'x'}"), write=True)

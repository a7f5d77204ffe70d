import pytest

from tocsin.errors import FormatError
from tocsin.model.digest import Digest
from tocsin.model.image_config import ImageConfig
from tocsin.model.platform import Platform


def test_from_json_when_config_is_valid_then_platform_and_diff_ids():
    config = ImageConfig.from_json(
        b'{"architecture":"arm64","os":"linux","variant":"v8","config":{"Env":["A=b"]},'
        b'"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' % (b"d" * 64)
    )
    assert config.platform == Platform("linux", "arm64", "v8")
    assert config.diff_ids == (Digest("d" * 64),)


def test_from_json_when_config_is_empty_then_fields_are_empty():
    assert ImageConfig.from_json(b"{}") == ImageConfig(Platform("", ""), ())


def test_from_json_when_diff_ids_are_not_a_list_then_format_error():
    with pytest.raises(FormatError, match=r"rootfs\.diff_ids: found string"):
        ImageConfig.from_json(b'{"rootfs":{"diff_ids":"x"}}')

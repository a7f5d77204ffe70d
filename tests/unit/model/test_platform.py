import pytest

from tocsin.errors import FormatError
from tocsin.model.platform import Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("linux/amd64/v1", Platform("linux", "amd64")),
        ("linux/amd64/v3", Platform("linux", "amd64", "v3")),
        ("linux/arm64", Platform("linux", "arm64")),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("linux/aarch64/8", Platform("linux", "arm64", "v8")),
        ("linux/arm", Platform("linux", "arm")),
        ("linux/armhf", Platform("linux", "arm")),
        ("linux/arm/7", Platform("linux", "arm", "v7")),
        ("linux/armel", Platform("linux", "arm", "v6")),
        ("macOS/arm64", Platform("darwin", "arm64")),
        ("windows(10.0.17763)/amd64", Platform("windows", "amd64", os_version="10.0.17763")),
        ("arm64", Platform("linux", "arm64")),
    ],
)
def test_parse_when_text_is_a_platform_then_written_as_in_containerd(text, expected):
    assert Platform.parse(text) == expected
    assert Platform.parse(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/*", "a b/c"])
def test_parse_when_text_is_not_a_platform_then_format_error(text):
    with pytest.raises(FormatError) as refusal:
        Platform.parse(text)
    assert refusal.value.what == "platform"


@pytest.mark.parametrize(
    ("asked", "has", "answer"),
    [
        (Platform("linux", "arm64"), Platform("linux", "arm64", "v8"), True),
        (Platform("linux", "arm64", "v8"), Platform("linux", "arm64"), True),
        (Platform("linux", "arm"), Platform("linux", "arm", "v7"), True),
        (Platform("linux", "arm", "v7"), Platform("linux", "arm", "v6"), False),
        (Platform("linux", "amd64"), Platform("linux", "amd64", "v1"), True),
        (Platform("linux", "amd64"), Platform("linux", "amd64", "v2"), False),
        (Platform("linux", "amd64"), Platform("windows", "amd64"), False),
        (Platform("windows", "amd64"), Platform("windows", "amd64", os_version="10"), True),
        (
            Platform("windows", "amd64", os_version="9"),
            Platform("windows", "amd64", os_version="10"),
            False,
        ),
    ],
)
def test_matches_when_compared_then_strict_as_in_containerd(asked, has, answer):
    assert asked.matches(has) is answer


def test_unknown_when_entry_is_an_attestation_then_true():
    assert Platform("unknown", "unknown").unknown
    assert not Platform("linux", "amd64").unknown

import pickle

import pytest

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.digest import Digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_of_when_data_is_empty_then_known_digest():
    assert str(Digest.of(b"")) == EMPTY
    assert Digest.parse(EMPTY) == Digest.of(b"")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256",
        EMPTY.upper(),
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY + "\n",
        " " + EMPTY,
        EMPTY.replace("e3b0", "E3B0"),
        "sha256:../../../../etc/passwd",
        "sha256:" + "../" * 21 + "a",
        "../sha256:" + "a" * 64,
        "sha256/" + "a" * 64,
        "sha256:" + "\N{ARABIC-INDIC DIGIT ONE}" * 64,
        "sha512:../x",
    ],
)
def test_parse_when_text_is_not_a_digest_then_format_error(text):
    with pytest.raises(FormatError) as refusal:
        Digest.parse(text)
    assert refusal.value.what == "digest"


@pytest.mark.parametrize("text", ["sha512:" + "a" * 128, "sha384:" + "b" * 96, "blake3:abc"])
def test_parse_when_algorithm_is_not_sha256_then_unsupported_error(text):
    with pytest.raises(UnsupportedError, match="expected sha256"):
        Digest.parse(text)


def test_digest_when_hashed_or_pickled_then_equal():
    digest = Digest.parse(EMPTY)
    assert {digest: 1}[pickle.loads(pickle.dumps(digest))] == 1  # noqa: S301 (our own)
    assert digest.algorithm == "sha256"

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import FormatError
from tocsin.model import go_json
from tocsin.model.go_json import MAX_DEPTH, decode_object, encode, omit_empty, sorted_map


def test_encode_when_key_has_html_characters_then_escaped_as_in_go():
    assert encode({"a<b>&c": ""}) == rb'{"a\u003cb\u003e\u0026c":""}'


def test_encode_when_text_has_control_characters_then_escaped_as_in_go():
    text = '"\\/\b\f\n\r\t\x00\x1f\x7f+é\u2028\u2029\ud800\U0001f600'
    expected = (
        r'"\"\\/\b\f\n\r\t\u0000\u001f' + "\x7f" + r"+é\u2028\u2029" + "\ufffd\U0001f600" + '"'
    )
    assert encode(text) == expected.encode()


def test_encode_when_list_is_none_then_null():
    assert encode({"layers": None, "n": 1, "b": True, "e": []}) == (
        b'{"layers":null,"n":1,"b":true,"e":[]}'
    )


def test_sorted_map_when_keys_are_mixed_then_sorted_by_utf8_bytes():
    keys = ["b", "a", "Z", "é", "\U0001f600", "\uffff", "a.b", "a-b"]
    by_bytes = sorted(keys, key=str.encode)
    assert list(sorted_map(dict.fromkeys(keys, ""))) == by_bytes


def test_omit_empty_when_values_are_empty_then_only_named_ones_are_omitted():
    struct = {"a": "", "b": "", "c": 0, "d": (), "e": None, "f": False, "g": {}, "h": "x"}
    assert omit_empty(struct, *"acdefgh") == {"b": "", "g": {}, "h": "x"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "invalid JSON"),
        (b"[]", "found a JSON array"),
        (b"1", "found a JSON number"),
        (b'{"a":1}x', "extra data"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'\xef\xbb\xbf{"a":1}', "BOM"),
        (b'{"a":' + b"9" * 5000 + b"}", "invalid JSON"),
        (b'{"a":"\n"}', "control character"),
        (b'{"a":' + b"[" * (MAX_DEPTH + 1), "deeper"),
        (b'{"a":' * 100_000, "deeper"),
        (b'{"a":"' + b"x" * (4 << 20) + b'"}', "at most"),
        (b'"' + b"\\" * 1_000_000, "invalid JSON"),
    ],
)
def test_decode_object_when_document_is_invalid_then_format_error(data, says):
    with pytest.raises(FormatError, match=f"(?i){says}") as refusal:
        decode_object(data, what="manifest")
    assert refusal.value.what == "manifest"


def test_decode_object_when_brackets_are_in_strings_then_not_counted():
    data = b'{"a":"' + b"[{" * 1000 + b'\\"["}'
    assert decode_object(data, what="manifest") == {"a": "[{" * 1000 + '"['}


def test_decode_object_when_keys_are_equal_then_last_one_wins():
    assert decode_object(b'{"a":1,"a":2}', what="manifest") == {"a": 2}


def test_decode_object_when_utf8_is_invalid_then_one_fffd_per_byte():
    assert decode_object(b'{"a":"\xe2\x82|\xff|\xed\xa0\x80"}', what="x") == {
        "a": "\ufffd\ufffd|\ufffd|\ufffd\ufffd\ufffd"
    }


PIECES = st.sampled_from(['"', "\\", '\\"', "[", "]", "{", "}", "a", "\n", '"a":', "\\\\", "é"])


@given(st.lists(PIECES, max_size=200).map("".join))
def test_depth_when_text_is_arbitrary_then_scan_is_linear(text):
    """A match attempt at a quote or bracket always succeeds, so no character is scanned twice."""
    matches = list(go_json._STRINGS_AND_BRACKETS.finditer(text))
    inside = sum(match.end() - match.start() for match in matches)
    starts = {match.start() for match in matches}
    outside = set(range(len(text))) - {at for m in matches for at in range(m.start(), m.end())}
    assert inside <= len(text)
    assert not [at for at in outside if text[at] in '"[]{}']
    assert all(text[at] in '"[]{}' for at in starts)


@pytest.mark.parametrize(
    "text",
    ['{"a":"' + '\\"' * 2_000_000, "[" * 4_000_000, '"' * 4_000_001, '{"' + "\\" * 4_000_000],
    ids=["escaped-quotes", "brackets", "quotes", "backslashes"],
)
def test_decode_object_when_large_text_is_hostile_then_format_error(text):
    with pytest.raises(FormatError):
        decode_object(text.encode(), what="manifest")

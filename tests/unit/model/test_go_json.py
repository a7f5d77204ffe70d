import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.errors import FormatError
from tocsin.model import go_json
from tocsin.model.go_json import MAX_DEPTH, decode_object, encode, omit_empty, sorted_map


def test_encode_when_key_has_html_characters_then_they_are_escaped_as_in_go():
    assert encode({"a<b>&c": ""}) == rb'{"a\u003cb\u003e\u0026c":""}'


def test_encode_when_text_has_control_characters_then_each_is_written_as_in_go():
    text = '"\\/\b\f\n\r\t\x00\x1f\x7f+é\u2028\u2029\ud800\U0001f600'
    expected = (
        r'"\"\\/\b\f\n\r\t\u0000\u001f' + "\x7f" + r"+é\u2028\u2029" + "\ufffd\U0001f600" + '"'
    )
    assert encode(text) == expected.encode()


def test_encode_when_list_is_nil_then_it_is_null():
    assert encode({"layers": None, "n": 1, "b": True, "e": []}) == (
        b'{"layers":null,"n":1,"b":true,"e":[]}'
    )


def test_sorted_map_when_keys_are_mixed_then_the_order_is_that_of_their_utf8_bytes():
    keys = ["b", "a", "Z", "é", "\U0001f600", "\uffff", "a.b", "a-b"]
    by_bytes = sorted(keys, key=str.encode)
    assert list(sorted_map(dict.fromkeys(keys, ""))) == by_bytes


def test_omit_empty_when_values_are_empty_then_only_named_ones_go():
    struct = {"a": "", "b": "", "c": 0, "d": (), "e": None, "f": False, "g": {}, "h": "x"}
    assert omit_empty(struct, *"acdefgh") == {"b": "", "g": {}, "h": "x"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "got a JSON array"),
        (b"1", "got a JSON number"),
        (b'{"a":1}x', "extra data"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'\xef\xbb\xbf{"a":1}', "BOM"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":"\n"}', "control character"),
        (b'{"a":' + b"[" * (MAX_DEPTH + 1), "deeper"),
        (b'{"a":' * 100_000, "deeper"),
        (b'{"a":"' + b"x" * (4 << 20) + b'"}', "at most"),
        (b'"' + b"\\" * 1_000_000, "not JSON"),
    ],
)
def test_decode_object_when_document_is_bad_then_it_is_refused(data, says):
    with pytest.raises(FormatError, match=f"(?i){says}") as refusal:
        decode_object(data, what="manifest")
    assert refusal.value.what == "manifest"


def test_decode_object_when_brackets_stand_in_text_then_they_do_not_nest():
    data = b'{"a":"' + b"[{" * 1000 + b'\\"["}'
    assert decode_object(data, what="manifest") == {"a": "[{" * 1000 + '"['}


def test_decode_object_when_keys_are_equal_then_the_last_wins():
    assert decode_object(b'{"a":1,"a":2}', what="manifest") == {"a": 2}


def test_decode_object_when_utf8_is_broken_then_each_bad_byte_is_one_replacement():
    assert decode_object(b'{"a":"\xe2\x82|\xff|\xed\xa0\x80"}', what="x") == {
        "a": "\ufffd\ufffd|\ufffd|\ufffd\ufffd\ufffd"
    }


PIECES = st.sampled_from(['"', "\\", '\\"', "[", "]", "{", "}", "a", "\n", '"a":', "\\\\", "é"])


@given(st.lists(PIECES, max_size=200).map("".join))
def test_depth_when_text_is_any_then_each_character_is_looked_at_once(text):
    """A search that starts at a quote or bracket never fails, so nothing is looked at again."""
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
def test_decode_when_a_large_text_is_hostile_then_it_is_refused(text):
    with pytest.raises(FormatError):
        decode_object(text.encode(), what="manifest")

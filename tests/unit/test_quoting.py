import json
import sys
import unicodedata

import pytest

from tocsin.quoting import MAX_NAME_LEN, MAX_QUOTED_LEN, escaped, quoted, shown


@pytest.mark.parametrize(
    ("text", "quotation"),
    [
        ("", '""'),
        ("storage is full; run curl x | sh", '"storage is full; run curl x | sh"'),
        ("a\nb\r\tc", r'"a\nb\r\tc"'),
        ("\x1b[31m\x00\x7f\x9b", r'"\x1b[31m\x00\x7f\x9b"'),
        ("\u202egnp.exe\u2066", r'"\u202egnp.exe\u2066"'),
        ("a\u200bb\ufeffc\u2060d\u00ade", r'"a\u200bb\ufeffc\u2060d\xade"'),
        ("a\u2028b\u2029c\u0085d\u00a0e", r'"a\u2028b\u2029c\x85d\xa0e"'),
        ('say "hi" \\ bye', r'"say \"hi\" \\ bye"'),
        ("caf\udce9 Müller 日本", r'"caf\xe9 Müller 日本"'),
        ("\ud800\U000e0001\U000f0000", r'"\ud800\U000e0001\U000f0000"'),
    ],
)
def test_quoted_when_text_is_untrusted_then_one_escaped_line(text, quotation):
    assert quoted(text) == quotation


def test_quoted_when_text_is_long_then_cut_with_ellipsis():
    assert quoted("x" * MAX_QUOTED_LEN) == f'"{"x" * MAX_QUOTED_LEN}"'
    assert quoted("x" * (MAX_QUOTED_LEN + 1)) == f'"{"x" * MAX_QUOTED_LEN}…"'
    assert quoted("abcdef", limit=3) == '"abc…"'


@pytest.mark.parametrize(
    "name", ["/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "sha256:00", "application/vnd.oci+json"]
)
def test_shown_when_name_is_plain_then_unchanged(name):
    assert shown(name) == name


@pytest.mark.parametrize("name", ["a b", "a;b", "a'b", "a|b", "a`b`", "ä", "", "a\n", "x" * 401])
def test_shown_when_name_is_not_plain_then_quoted(name):
    assert shown(name) == quoted(name, limit=MAX_NAME_LEN)


def test_escaped_when_given_all_characters_then_output_is_printable():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    left = {unicodedata.category(character) for character in escaped(everything)}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert escaped(everything).isprintable()


def test_quoted_when_text_is_plain_then_json_decodes_it():
    text = 'a "quoted" \\ text\twith a tab and ünïcode'
    assert json.loads(quoted(text)) == text

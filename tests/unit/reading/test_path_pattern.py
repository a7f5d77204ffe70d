"""Path patterns, compared with the plain recursive definition, which tries all possibilities."""

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from tocsin.reading.path_pattern import PathPattern

NAMES = st.lists(st.sampled_from(["a", "b", "ab", ".c", "a[b"]), min_size=1, max_size=5)
PARTS = st.lists(
    st.sampled_from(["**", "*", "a", "a*", "?", "[ab]", "*b*"]), min_size=1, max_size=5
)


def matches(parts, names):
    if not parts:
        return not names
    first, *rest = parts
    if first == "**":
        return any(matches(rest, names[at:]) for at in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], first) and matches(rest, names[1:])


def found(parts, names):
    pattern = PathPattern(parts)
    positions = pattern.start
    for name in names:
        positions = pattern.advance(positions, name)
    return pattern.is_match(positions)


@given(PARTS, NAMES)
def test_pattern_when_names_are_random_then_as_the_recursive_definition(parts, names):
    assert found(parts, names) == matches(parts, names)


@given(PARTS, NAMES, NAMES)
def test_positions_when_empty_then_nothing_below_matches(parts, names, below):
    pattern = PathPattern(parts)
    positions = pattern.start
    for name in names:
        positions = pattern.advance(positions, name)
    if not positions:
        assert not matches(parts, names + below)


def test_pattern_when_it_has_many_stars_then_the_cost_is_bounded():
    calls = []
    parts = ["**", "a*"] * 20 + ["x"]
    pattern = PathPattern(parts)
    pattern._matchers = [
        matcher and (lambda name, matcher=matcher: calls.append(name) or matcher(name))
        for matcher in pattern._matchers
    ]
    positions = pattern.start
    for _ in range(50):
        positions = pattern.advance(positions, "a")
    assert positions
    assert not pattern.is_match(positions)
    assert len(calls) <= len(parts) * 50

import pytest

from tocsin.stores.registry.challenges import Challenge, parse_challenges
from tocsin.stores.registry.scopes import Scopes


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://a/token",service="s",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/token",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (r'Basic realm="say \"hi\", \\ok"', [("basic", {"realm": r'say "hi", \ok'})]),
        ("BEARER Realm=x , SERVICE = y", [("bearer", {"realm": "x", "service": "y"})]),
        (
            'Negotiate, Basic realm="r", Bearer realm="t",scope="a:b:c"',
            [
                ("negotiate", {}),
                ("basic", {"realm": "r"}),
                ("bearer", {"realm": "t", "scope": "a:b:c"}),
            ],
        ),
        ("Negotiate dG9rZW4=, Basic realm=r", [("negotiate", {}), ("basic", {"realm": "r"})]),
        (", ,Basic realm=r,,", [("basic", {"realm": "r"})]),
        ('Basic realm="a", realm="b"', [("basic", {"realm": "a"})]),
        ('Basic realm="never closed', [("basic", {})]),
        ('"', []),
        ("Basic realm=r, =", [("basic", {"realm": "r"})]),
    ],
)
def test_parse_challenges(header, expected):
    assert parse_challenges(header) == [Challenge(s, p) for s, p in expected]


def test_parse_challenges_when_hostile_then_fast():
    assert len(parse_challenges('a b="' + '\\"' * 1_000_000)) <= 2
    assert parse_challenges("a " * 100_000)


def test_scopes_when_parsed_and_merged_then_actions_are_joined_in_order():
    scopes = Scopes.parse("repository:h:5000/a:push repository:h:5000/a:pull registry:catalog:*")
    assert scopes.texts() == ["registry:catalog:*", "repository:h:5000/a:pull,push"]
    assert scopes.covers(Scopes.repository("h:5000/a", "pull"))
    assert not scopes.covers(Scopes.repository("b", "pull"))
    merged = Scopes.repository("a", "delete", "pull") | Scopes.repository("b", "pull")
    assert str(merged) == "repository:a:pull,delete repository:b:pull"
    assert Scopes.parse("nonsense :: a:b").texts() == []


def test_challenge_when_blanks_replace_commas_then_all_parameters_are_read():
    """This violates RFC 9110, but skopeo and crane accept it."""
    (found,) = parse_challenges(
        'Bearer realm="http://h/token" service="s" scope="repository:a:pull"'
    )
    assert found.parameters == {
        "realm": "http://h/token",
        "service": "s",
        "scope": "repository:a:pull",
    }
    first, second = parse_challenges('Basic realm="x" charset="y" , Bearer realm=z service=s')
    assert (first.scheme, first.parameters) == ("basic", {"realm": "x", "charset": "y"})
    assert (second.scheme, second.parameters) == ("bearer", {"realm": "z", "service": "s"})

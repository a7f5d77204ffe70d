"""Values that `IndexingOptions` accepts or rejects."""

import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import PurePosixPath

import pytest

from tocsin import FormatError, IndexingOptions, Platform, UnsupportedError

APP = PurePosixPath("/usr/bin/app")
AMD64, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")


@pytest.mark.parametrize(
    "given",
    [
        ("linux/amd64", "linux/arm/v7"),
        ["linux/amd64", ARM],
        (AMD64, ARM),
        iter(["linux/amd64", "linux/arm/v7"]),
        {"linux/amd64": 1, "linux/arm/v7": 2},
    ],
    ids=["texts", "both", "platforms", "iterator", "keys"],
)
def test_platforms_when_given_in_any_form_then_they_are_parsed(given):
    assert IndexingOptions(platforms=given).platforms == (AMD64, ARM)


@pytest.mark.parametrize("given", ["linux/amd64", AMD64, "amd64"])
def test_platforms_when_a_single_one_is_given_then_a_tuple_of_it(given):
    assert IndexingOptions(platforms=given).platforms == (AMD64,)


def test_platforms_when_not_given_then_all():
    assert IndexingOptions().platforms is None
    assert IndexingOptions(platforms=None).platforms is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("nope", FormatError, 'invalid platform "nope"'),
        (("linux/amd64", ""), FormatError, 'invalid platform ""'),
        ((), ValueError, "platforms is empty, expected at least one, or None for all"),
        ((b"linux/amd64",), TypeError, "platform is bytes, expected str such as 'linux/amd64'"),
        (64, TypeError, "'int' object is not iterable"),
    ],
)
def test_platforms_when_wrong_then_refused_at_once(given, error, message):
    with pytest.raises(error, match=message):
        IndexingOptions(platforms=given)


@pytest.mark.parametrize("given", ["xattr", ["xattr"], {"xattr"}, iter(["xattr", "xattr"])])
def test_optimizations_when_given_in_any_form_then_a_set(given):
    assert IndexingOptions(optimizations=given).optimizations == frozenset({"xattr"})


@pytest.mark.parametrize(
    "given",
    ["/usr/bin/app", APP, ["/usr/bin/app"], iter([APP])],
)
def test_prefetch_when_given_in_any_form_then_a_tuple_of_strings(given):
    assert IndexingOptions(prefetch=given).prefetch == ("/usr/bin/app",)


@pytest.mark.parametrize("name", ["optimizations", "prefetch"])
@pytest.mark.parametrize("given", [3, [3], b"xattr", [b"xattr"], [None]])
def test_strings_when_of_the_wrong_type_then_the_error_names_the_option(name, given):
    with pytest.raises(TypeError, match=f"{name}: not a string or an iterable of strings: "):
        IndexingOptions(**{name: given})


def test_optimizations_when_unknown_then_unsupported():
    with pytest.raises(
        UnsupportedError, match=r"optimizations: unknown value \(found 'zstd', expected"
    ):
        IndexingOptions(optimizations="zstd")


def test_jobs_when_none_then_the_default_number():
    assert IndexingOptions(jobs=None) == IndexingOptions()


def test_options_when_replaced_or_pickled_then_other_fields_are_kept():
    options = IndexingOptions(platforms="linux/amd64", prefetch="/a", optimizations="xattr", jobs=3)
    other = replace(options, jobs=2)
    assert (other.jobs, other.platforms, other.prefetch) == (2, (AMD64,), ("/a",))
    assert replace(other, jobs=3) == options
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301
    assert hash(options) == hash(replace(other, jobs=3))
    with pytest.raises(FrozenInstanceError):
        options.jobs = 1

"""Plans: sources, patterns, catalogues, and the plan file."""

import json

import pytest

import tocsin
from support import fleets
from support.registry import Registry
from tocsin import fleet
from tocsin.fleet.sources import selections

ALL = tocsin.IndexingOptions(min_layer_size=0)
NAMES = ["base/os", "team/app", "team/sub/tool"]


@pytest.fixture
def registry():
    with Registry() as started:
        for name in NAMES:
            fleets.put(started.host, name, "base", name)
            fleets.put(started.host, name, "base", f"{name}-v2", tag="v2")
        yield started


def named(plan, registry):
    return [
        f"{image.repository.removeprefix(registry.host + '/')}:{','.join(image.tags)}"
        for image in plan.images
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", [f"{name}:{tag}" for name in NAMES for tag in ("1", "v2")]),
        ("team/*:v*", ["team/app:v2", "team/sub/tool:v2"]),
        ("team/app:*", ["team/app:1", "team/app:v2"]),
        ("team/a?p:[0-9]", ["team/app:1"]),
        ("none*", []),
    ],
)
def test_plan_when_given_a_pattern_then_matching_images(registry, pattern, expected):
    registry.page_size = 2
    plan = fleet.plan(f"{registry.host}/{pattern}", options=ALL)
    assert named(plan, registry) == expected


def test_plan_when_images_are_excluded_then_left_out(registry):
    plan = fleet.plan(
        f"{registry.host}/*", options=ALL, exclude=["*/team/sub/*", f"{registry.host}/*:1"]
    )
    assert named(plan, registry) == ["base/os:v2", "team/app:v2"]


def test_plan_when_tags_name_one_image_then_it_is_planned_once(registry):
    fleets.put(registry.host, "team/app", "base", "team/app", tag="latest")
    plan = fleet.plan(f"{registry.host}/team/app:*", options=ALL)
    assert named(plan, registry) == ["team/app:1,latest", "team/app:v2"]
    assert len(plan.layers) == 3


def test_plan_when_tags_belong_to_the_referrers_schema_then_left_out(registry):
    tocsin.create(f"{registry.host}/team/app:1", options=ALL)
    assert any(tag.startswith("sha256-") for tag in registry.repository("team/app").tags)
    plan = fleet.plan(f"{registry.host}/team/app:*", options=ALL)
    assert named(plan, registry) == ["team/app:1", "team/app:v2"]


def test_plan_when_converting_then_converted_tags_are_no_sources(registry):
    tocsin.convert(f"{registry.host}/team/app:1", f"{registry.host}/team/app:1-soci", options=ALL)
    plan = fleet.plan(f"{registry.host}/team/app:*", options=ALL, convert_suffix="-soci")
    assert [image.destination for image in plan.images] == [
        f"{registry.host}/team/app:1-soci",
        f"{registry.host}/team/app:v2-soci",
    ]
    assert [layer.is_read for layer in plan.layers] == [False, False, True]


def test_plan_when_an_image_is_missing_then_it_stays_with_the_reason(registry):
    plan = fleet.plan(
        [f"{registry.host}/team/app:1", f"{registry.host}/team/app:none"], options=ALL
    )
    assert [image.skipped is None for image in plan.images] == [True, False]
    assert "tag none: not found" in plan.images[1].skipped


def test_plan_when_no_image_is_found_then_the_error_is_raised(registry):
    with pytest.raises(tocsin.NotFoundError, match="tag none: not found"):
        fleet.plan(f"{registry.host}/team/app:none", options=ALL)


def test_plan_when_something_is_not_an_image_then_skipped(registry):
    created = tocsin.create(f"{registry.host}/team/app:1", options=ALL)
    index = created.platforms[0].soci_index.digest
    plan = fleet.plan([f"{registry.host}/team/app:v2", f"{registry.host}/team/app@{index}"],
                      options=ALL)  # fmt: skip
    assert [image.skipped is None for image in plan.images] == [True, False]


def test_plan_when_the_registry_has_no_catalogue_then_unsupported(registry):
    registry.lists_repositories = False
    with pytest.raises(tocsin.UnsupportedError) as caught:
        fleet.plan(f"{registry.host}/*", options=ALL)
    assert caught.value.hint == "Name the repositories, or list the images in a file."


def test_plan_when_the_catalogue_needs_a_token_then_its_scope_is_asked(registry):
    registry.auth = "token"
    options = tocsin.RegistryOptions(username="alice", password="secret")  # noqa: S106
    plan = fleet.plan(f"{registry.host}/team/*:1", options=ALL, registry=options)
    assert named(plan, registry) == ["team/app:1", "team/sub/tool:1"]
    scopes = [query.query.get("scope", "") for query in registry.asked("GET", "^/token$")]
    assert scopes[0] == "registry:catalog:*"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("", tocsin.FormatError),
        ("h.io/UPPER", tocsin.FormatError),
        ("*", tocsin.FormatError),
        ("reg*/x:1", tocsin.FormatError),
        ("h.io/a*@sha256:00", tocsin.FormatError),
        ("h.io/A:*", tocsin.FormatError),
        ("oci:dir:tag", tocsin.UnsupportedError),
    ],
)
def test_source_when_invalid_then_error(source, error):
    with pytest.raises(error):
        selections([source], lambda _: [])


@pytest.mark.parametrize(
    "options",
    [
        tocsin.IndexingOptions(seek=True),
        tocsin.IndexingOptions(prefetch="/a"),
        tocsin.IndexingOptions(reference_identical=True),
    ],
)
def test_plan_when_an_option_is_unsupported_then_error(options):
    with pytest.raises(tocsin.UnsupportedError, match="not supported for a fleet"):
        fleet.plan("h.io/x:1", options=options)


def test_list_when_read_then_without_comments(tmp_path):
    (tmp_path / "list").write_text("# images\n\n h.io/a:1 \nh.io/b:*\n")
    assert fleet.read_list(tmp_path / "list") == ["h.io/a:1", "h.io/b:*"]


def test_list_when_not_utf_8_then_format_error(tmp_path):
    (tmp_path / "list").write_bytes(b"\xff\xfe")
    with pytest.raises(tocsin.FormatError, match="not UTF-8"):
        fleet.read_list(tmp_path / "list")


# The plan file


def test_plan_when_written_then_read_back_equal(registry, tmp_path):
    plan = fleet.plan(f"{registry.host}/*", options=ALL)
    plan.write(tmp_path / "plan.json")
    again = fleet.Plan.read(tmp_path / "plan.json")
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    assert again.to_dict() == plan.to_dict()
    assert (plan.read_size < plan.shared_size, len(plan.images)) == (True, 6)


def test_plan_when_made_again_then_fingerprint_is_the_same(registry):
    prints = {fleet.plan(f"{registry.host}/*", options=ALL).fingerprint for _ in range(2)}
    assert len(prints) == 1


def damaged(document):
    yield []
    yield {}
    yield {**document, "version": 2}
    yield {**document, "span_size": -1}
    yield {**document, "span_size": "4"}
    yield {**document, "images": [{**document["images"][0], "layers": [99]}]}
    yield {**document, "images": [{**document["images"][0], "digest": "sha256:0"}]}
    yield {**document, "images": [{**document["images"][0], "repository": "-"}]}
    yield {**document, "layers": [{**document["layers"][0], "size": None}]}
    yield {**document, "images": document["images"][1:]}
    yield {**document, "fingerprint": ""}
    yield {key: value for key, value in document.items() if key != "layers"}


def test_plan_when_damaged_then_format_error(registry, tmp_path):
    document = fleet.plan(f"{registry.host}/*", options=ALL).to_dict()
    texts = [json.dumps(each) for each in damaged(document)]
    texts += [json.dumps(document)[:-20], "", "[" * 100_000, "nul\0"]
    for text in texts:
        (tmp_path / "plan").write_text(text)
        with pytest.raises(tocsin.FormatError) as caught:
            fleet.Plan.read(tmp_path / "plan")
        assert caught.value.what == "plan"

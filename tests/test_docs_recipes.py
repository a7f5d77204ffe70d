"""The recipes of docs/ci.md, run as they are written, against a registry in this process."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest

import tocsin
from support.cli_process import TIMEOUT, TOCSIN, environment
from support.docs_pages import DOCS, blocks
from support.images import make_image
from support.registry import Registry
from support.registry_client import noise, store_of

RUN_HERE = "<!-- run by tests/test_docs_recipes.py -->"
HEADINGS = ("GitHub Actions", "GitLab CI", "AWS CodeBuild", "AWS Lambda")
BLOCKS = [block for block in blocks(DOCS / "ci.md") if block.comment == RUN_HERE]
RECIPES = dict(zip(HEADINGS, BLOCKS, strict=True))
ENTRY = re.compile(r"(?:- )?(?:run: )?(.*)")


def commands(recipe):
    """Return the lines of a recipe that run tocsin."""
    lines = (ENTRY.fullmatch(line.strip())[1] for line in recipe.code.splitlines())
    return [line for line in lines if re.search(r"(^|\| )tocsin ", line)]


@pytest.fixture(scope="module")
def image():
    return make_image({"usr/bin/app": noise(11 << 20)})


@pytest.fixture
def registry(image):
    with Registry() as registry:
        with store_of(registry) as store:
            image.put(store, "1")
        yield registry


def entries_of(registry, tag):
    repository = registry.repository("team/app")
    return json.loads(repository.manifests[repository.tags[tag]][1])["manifests"]


def test_headings_when_read_then_each_recipe_is_below_its_own():
    text = (DOCS / "ci.md").read_text()
    for heading, recipe in RECIPES.items():
        section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert recipe.code in section


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "AWS Lambda"])
def test_pipeline_when_run_then_there_is_a_converted_image(tmp_path, registry, name):
    registry.auth = "token"
    # As docker login leaves it; GitLab's job does not log in.
    known = {registry.host: {"auth": base64.b64encode(b"alice:secret").decode()}}
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {} if name == "GitLab CI" else known})
    )
    (command,) = commands(RECIPES[name])
    done = subprocess.run(  # noqa: S603 (our own words)
        ["/bin/sh", "-euc", command],
        env=environment(
            PATH=f"{Path(TOCSIN).parent}:/usr/bin:/bin",
            DOCKER_CONFIG=str(tmp_path),
            HOME=str(tmp_path),
            IMAGE=f"{registry.host}/team/app:1",
            LOGIN="--username alice --password-stdin",
            CI_REGISTRY_PASSWORD="secret",  # noqa: S106 (of the test registry)
        ),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert len(entries_of(registry, "1-soci")) == 2


@pytest.fixture
def handler(registry, monkeypatch):
    """Return the Lambda handler; what it says of ECR is said of the registry."""

    def convert(source, destination):
        ecr = "1111.dkr.ecr.eu-west-1.amazonaws.com"
        return real(source.replace(ecr, registry.host), destination.replace(ecr, registry.host))

    real = tocsin.convert
    monkeypatch.setattr(tocsin, "convert", convert)
    names = {}
    exec(RECIPES["AWS Lambda"].code, names)  # noqa: S102 (our own words)
    return names["handler"]


def pushed(**detail):
    fields = {"repository-name": "team/app", **{k.replace("_", "-"): v for k, v in detail.items()}}
    return {"account": "1111", "region": "eu-west-1", "detail": fields}


def test_lambda_when_an_image_is_pushed_then_it_is_converted(registry, handler):
    digest = handler(pushed(image_tag="1"), None)
    assert registry.repository("team/app").tags["1-soci"] == digest
    assert len(entries_of(registry, "1-soci")) == 2


@pytest.mark.parametrize("detail", [{}, {"image_tag": "1-soci"}])
def test_lambda_when_it_caused_the_push_itself_then_it_does_nothing(registry, handler, detail):
    assert handler(pushed(**detail), None) is None
    assert set(registry.repository("team/app").tags) == {"1"}


def test_lambda_when_nothing_can_be_indexed_then_it_succeeds(registry, handler):
    with store_of(registry) as store:
        make_image({"a": b"small"}).put(store, "small")
    assert handler(pushed(image_tag="small"), None) is None

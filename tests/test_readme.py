"""The CI recipes of the README, run exactly as written against a registry in this process."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest

from support.cli_process import TIMEOUT, TOCSIN, environment
from support.images import make_image
from support.registry import Registry
from support.registry_client import noise, store_of

README = Path(__file__).parents[1] / "README.md"
SECTION = README.read_text().partition("## In CI\n")[2].partition("\n## ")[0]
RECIPES = dict(re.findall(r"\*\*(.+?)\.\*\*.*?```yaml\n(.*?)```", SECTION, re.DOTALL))
ENTRY = re.compile(r"(?:- )?(?:run: )?(.*)")


def commands(recipe):
    """Return the lines of a recipe that run tocsin."""
    lines = (ENTRY.fullmatch(line.strip())[1] for line in recipe.splitlines())
    return [line for line in lines if re.search(r"(^|\| )tocsin ", line)]


def test_recipes_when_read_then_at_most_ten_lines_and_one_command():
    assert list(RECIPES) == ["GitHub Actions", "GitLab CI", "AWS CodeBuild"]
    for recipe in RECIPES.values():
        assert len(recipe.splitlines()) <= 10
        assert len(commands(recipe)) == 1
        assert re.search(r"pip install \S*tocsin", recipe)


@pytest.fixture(scope="module")
def image():
    return make_image({"usr/bin/app": noise(11 << 20)})


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_when_run_then_a_converted_image_exists(tmp_path, image, name):
    with Registry() as registry:
        with store_of(registry) as store:
            image.put(store, "1")
        registry.auth = "token"
        # The file that docker login writes; GitLab's job does not log in.
        known = {registry.host: {"auth": base64.b64encode(b"alice:secret").decode()}}
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {} if name == "GitLab CI" else known})
        )
        done = subprocess.run(  # noqa: S603 (commands from our own README)
            ["/bin/sh", "-euc", "\n".join(commands(RECIPES[name]))],
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
        digest = registry.repository("team/app").tags["1-soci"]
        entries = json.loads(registry.repository("team/app").manifests[digest][1])["manifests"]
        assert len(entries) == 2

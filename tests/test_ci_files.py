"""action.yml and the GitLab component: their scripts are run as the services would run them."""

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

import tocsin
from support.cli_process import TIMEOUT, TOCSIN, environment
from support.go_tools import ACTIONLINT
from support.images import make_image
from support.registry import Registry
from support.registry_client import noise, store_of

ROOT = Path(__file__).parents[1]
ACTION = (ROOT / "action.yml").read_text()
COMPONENT = (ROOT / "templates" / "index.yml").read_text()
WORKFLOW = """
on: push
jobs:
  index:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: index
        uses: ./
        with: {INPUTS}
      - run: echo "$DIGEST"
        env: {DIGEST: "${{ steps.index.outputs.digest }}"}
"""


@pytest.fixture
def registry():
    with Registry() as registry:
        with store_of(registry) as store:
            make_image({"usr/bin/app": noise(11 << 20)}).put(store, "1")
        registry.auth = "token"
        yield registry


def run(script, directory, **variables):
    done = subprocess.run(  # noqa: S603 (our own words)
        # The command line that GitHub uses for "shell: bash".
        ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=directory,
        env=environment(
            PATH=f"{Path(TOCSIN).parent}:/usr/bin:/bin", HOME=str(directory), **variables
        ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def action(directory, registry, destination):
    config = directory / "config.json"
    config.write_text(f'{{"auths": {{"{registry.host}": {{"auth": "YWxpY2U6c2VjcmV0"}}}}}}')
    outputs = directory / "outputs"
    outputs.write_text("")
    script = textwrap.dedent(ACTION.partition("      run: |\n")[2])
    run(
        script,
        directory,
        DOCKER_CONFIG=str(directory),
        GITHUB_OUTPUT=str(outputs),
        IMAGE=f"{registry.host}/team/app:1",
        DESTINATION=destination and f"{registry.host}/team/app:{destination}",
        FORCE="false",
    )
    return outputs.read_text()


def test_action_when_run_twice_then_the_digest_is_the_same(tmp_path, registry):
    expected = "digest={}\n"
    first = action(tmp_path, registry, "1-soci")
    made = registry.repository("team/app").tags["1-soci"]
    assert first == expected.format(made)
    assert action(tmp_path, registry, "1-soci") == first
    assert registry.repository("team/app").tags["1-soci"] == made


def test_action_when_there_is_no_destination_then_a_version_1_index(tmp_path, registry):
    assert action(tmp_path, registry, "") == ""
    options = tocsin.RegistryOptions(username="alice", password="secret")  # noqa: S106 (of the test registry)
    found = tocsin.indexes(f"{registry.host}/team/app:1", registry=options)
    assert [index.version for index in found.platforms[0].soci_indexes] == [1]


def test_component_when_run_twice_then_the_image_is_the_same(tmp_path, registry):
    login = re.search(r"^    LOGIN: (.*)$", COMPONENT, re.M)[1]
    (command,) = re.findall(r"^    - (.* tocsin convert .*)$", COMPONENT, re.M)
    made = []
    for _ in range(2):
        run(
            command,
            tmp_path,
            LOGIN=login.replace("$CI_REGISTRY_USER", "alice"),
            CI_REGISTRY_PASSWORD="secret",  # noqa: S106 (of the test registry)
            IMAGE=f"{registry.host}/team/app:1",
            DESTINATION=f"{registry.host}/team/app:1-soci",
        )
        made.append(registry.repository("team/app").tags["1-soci"])
    assert made[0] == made[1]


def test_scripts_when_read_then_no_input_is_part_of_the_code():
    assert "${{" not in ACTION.partition("      run: |\n")[2]
    assert "$[[" not in COMPONENT.partition("  script:\n")[2]


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ("image: h/r:1", None),
        ("image: h/r:1, destination: h/r:2, force: true, version: '1'", None),
        ("destination: h/r:2", 'missing input "image"'),
        ("image: h/r:1, other: 1", 'input "other" is not defined'),
    ],
)
def test_action_when_checked_by_actionlint_then_inputs_are_known(tmp_path, inputs, problem):
    (tmp_path / ".git").mkdir()
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "w.yml").write_text(WORKFLOW.replace("INPUTS", inputs))
    (tmp_path / "action.yml").write_text(ACTION)
    done = subprocess.run(  # noqa: S603 (a tool of the test machine)
        [ACTIONLINT.directory() / "actionlint", "-no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode == 0) == (problem is None), done.stdout
    assert problem is None or problem in done.stdout

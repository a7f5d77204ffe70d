"""The operator of docs/airflow.md, in Airflow itself against Debian's docker-registry."""

import json
import subprocess

import pytest

import tocsin
from support.cli_process import environment
from support.docs_pages import DOCS, REGISTRY, blocks
from support.images import make_image
from support.python_tools import AIRFLOW
from support.registry_client import noise
from support.registry_real import docker_registry
from tocsin.stores.layout import OciLayout

pytestmark = [pytest.mark.interop, pytest.mark.slow]

RUN_HERE = "<!-- run by tests/interop/test_airflow.py -->"
SCRIPT = """
import json, sys
from index_image import dag
task = dag.get_task("index")
task.render_template_fields({"params": {"tag": "1"}})
if sys.argv[1] == "kill":
    task.on_kill()
print("XCOM", json.dumps(task.execute({})))
"""
_TIMEOUT = 600


@pytest.fixture
def run(tmp_path):
    (tmp_path / "registry").mkdir()
    with OciLayout(tmp_path / "D", write=True) as store:
        make_image({"usr/bin/app": noise(11 << 20)}).put(store, "1")
    with docker_registry(tmp_path / "registry") as host:
        tocsin.copy(f"oci:{tmp_path / 'D'}:1", f"{host}/team/app:1")
        (block,) = (b for b in blocks(DOCS / "airflow.md") if b.comment == RUN_HERE)
        (tmp_path / block.title).write_text(block.code.replace(REGISTRY, host))

        def run(word):
            return subprocess.run(  # noqa: S603 (a tool of the test machine)
                [AIRFLOW.python(), "-c", SCRIPT, word],
                cwd=tmp_path,
                env=environment(HOME=str(tmp_path), AIRFLOW_HOME=str(tmp_path / "airflow")),
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=False,
            )

        yield host, run


def xcom(done):
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("XCOM "))
    return json.loads(line.removeprefix("XCOM "))


def test_task_when_run_again_then_nothing_changes(run):
    host, run = run
    first = xcom(run("run"))
    made = str(tocsin.resolve(f"{host}/team/app:1-soci").digest)
    assert (first["image"]["digest"], first["unchanged"]) == (made, False)
    second = xcom(run("run"))
    assert (second["image"]["digest"], second["unchanged"]) == (made, True)


def test_task_when_killed_then_no_tag_is_left(run):
    host, run = run
    killed = run("kill")
    assert killed.returncode == 1
    assert "InterruptedError: the task was killed" in killed.stderr
    with pytest.raises(tocsin.NotFoundError):
        tocsin.resolve(f"{host}/team/app:1-soci")

"""containerd 2 and the CRI plug-in, configured as ``--print-config`` says."""

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest

from support.containerd import containerd
from support.go_tools import CONTAINERD, CRICTL
from support.images import Image
from support.registry_real import program
from support.snapshotter import base_layer, chain_ids, data_layer, image_of
from tocsin.cli.commands.am_i_lazy import SCRIPT
from tocsin.model.descriptor import Descriptor
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_MANIFEST
from tocsin.mounting.containerd_version import installed_version
from tocsin.mounting.snapshotter.config import SnapshotterConfig
from tocsin.mounting.snapshotter.configs import config_text

pytestmark = [pytest.mark.slow, pytest.mark.interop]
LAYERS = base_layer(), data_layer("two")


def config_of(machine, kind, version=(2, 2)):
    settings = SnapshotterConfig(root=machine.root, address=machine.address)
    return config_text(kind, version=version, settings=settings)


@pytest.mark.parametrize("is_indexed", [True, False], ids=["index", "no-index"])
def test_ctr_when_pulled_by_the_transfer_service_then_lazy_if_indexed(machine, is_indexed):
    reference = machine.put("two", image_of(*LAYERS), index=is_indexed)
    config = config_of(machine, "containerd")
    with containerd(machine.directory, programs=CONTAINERD.directory(), config=config) as ctr:
        pulled = ctr("image", "pull", "--plain-http", "--snapshotter", "tocsin", reference)
        assert pulled.returncode == 0, pulled.stderr
        labels = machine.labels()
        assert set(labels) == set(chain_ids(*LAYERS))
        lazy = str(is_indexed).lower()
        assert {each["dev.tocsin/lazy"] for each in labels.values()} == {lazy}
        run = partial(ctr.run, reference, options=("--snapshotter", "tocsin"))
        done = run("cat", "/etc/name", "/etc/base")
        assert (done.returncode, done.stdout) == (0, "twobase"), done.stderr
        done = run("sh", "-c", SCRIPT.read_text())
        words = "lazy: the root is an overlay" if is_indexed else "unknown: "
        assert done.stdout.startswith(words), done
        ctr("image", "rm", "--sync", reference)


def test_ctr_when_the_transfer_service_does_not_unpack_then_it_cannot_pull(machine):
    reference = machine.put("two", image_of(*LAYERS), index=True)
    config = config_of(machine, "containerd").partition("# Without these lines")[0]
    with containerd(machine.directory, programs=CONTAINERD.directory(), config=config) as ctr:
        pulled = ctr("image", "pull", "--plain-http", "--snapshotter", "tocsin", reference)
    assert (pulled.returncode, "no unpack platforms defined" in pulled.stderr) == (1, True)


def with_command(image, *command):
    """Return an image with another command."""
    document = json.loads(image.config)
    document["config"]["Cmd"] = command
    config = json.dumps(document).encode()
    manifest = Manifest(
        Descriptor.of(config, OCI_CONFIG), image.layer_descriptors, media_type=OCI_MANIFEST
    )
    return Image(image.layers, image.layer_descriptors, config, manifest.to_json())


class Pods:
    """Runs containers through CRI, as the kubelet does."""

    def __init__(self, directory):
        self.directory = directory
        self.program = CRICTL.directory() / "crictl"

    def run(self, *arguments):
        socket = f"unix://{self.directory}/c.sock"
        done = subprocess.run(  # noqa: S603 (a tool of the test machine)
            [self.program, "-r", socket, "-i", socket, "-t", "300s", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, reference):
        pod = self.directory / "pod.json"
        namespaces = {"network": 2}  # that of the machine, so that no CNI plug-in is needed
        metadata = {"name": "p", "namespace": "default", "uid": "1", "attempt": 1}
        linux = {"security_context": {"namespace_options": namespaces}}
        pod.write_text(json.dumps({"metadata": metadata, "linux": linux}))
        file = self.directory / "container.json"
        file.write_text(json.dumps({"metadata": {"name": "c"}, "image": {"image": reference}}))
        self.pod = self.run("runp", str(pod))
        container = self.run("create", self.pod, str(file), str(pod))
        self.run("start", container)
        return container

    def stop(self):
        self.run("stopp", self.pod)
        self.run("rmp", self.pod)


MACHINE = {
    "installed": """[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{hosts}"
""",
    "built": """[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{image}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{hosts}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
""",
}
"""What the test machine needs: the image of a pod's first process, plain HTTP, and no right to
protect processes from running out of memory."""


@pytest.mark.parametrize("which", MACHINE)
def test_cri_when_a_pod_is_started_then_lazily(machine, which):
    programs = CONTAINERD.directory() if which == "built" else None
    daemon = Path(program("containerd")) if programs is None else programs / "containerd"
    image = with_command(image_of(*LAYERS), "sleep", "1000")
    reference = machine.put("two", image, index=True)
    config = config_of(machine, "k8s", installed_version(daemon))
    host, hosts = machine.registry.host, machine.directory / "certs.d"
    (hosts / host).mkdir(parents=True)
    (hosts / host / "hosts.toml").write_text(f'server = "http://{host}"\n')
    more = MACHINE[which].format(image=reference, hosts=hosts)
    with containerd(machine.directory, programs=programs, config=config, more=more):
        pods = Pods(machine.directory)
        pods.run("pull", reference)
        labels = machine.labels()
        assert set(labels) == set(chain_ids(*LAYERS))
        assert {each["dev.tocsin/lazy"] for each in labels.values()} == {"true"}
        container = pods.start(reference)
        assert pods.run("exec", container, "cat", "/etc/name", "/etc/base") == "twobase"
        shown = pods.run("exec", container, "sh", "-c", SCRIPT.read_text())
        assert shown.startswith("lazy: the root is an overlay")
        pods.stop()

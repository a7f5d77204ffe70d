"""The kubelet's pulls through the image service of the snapshotter, with a real containerd."""

import time

import grpc
import pytest

from support.registry import Registry
from support.snapshotter import PATIENCE, base_layer, chain_ids, data_layer, image_of, node
from tocsin.containerd_api.messages_pb2 import CriAuthConfig, CriImageSpec, CriPullImageRequest

IMAGES = "/runtime.v1.ImageService"


@pytest.fixture
def kubernetes():
    """A machine with containerd, whose images the kubelet pulls through the snapshotter."""
    with Registry() as registry, node(registry) as machine:
        kubelet, containerd = str(machine.directory / "k.sock"), str(machine.directory / "c.sock")
        addresses = "--image-service", kubelet, "--containerd", containerd
        machine.start(*addresses, "--no-background")
        with machine.containerd(cri=True):
            yield machine


def ask(machine, method, request):
    """Send a request of the kubelet."""
    with grpc.insecure_channel(f"unix:{machine.directory / 'k.sock'}") as channel:
        call = channel.unary_unary(f"{IMAGES}/{method}")
        return call(request, timeout=PATIENCE, wait_for_ready=True)


def pull(machine, reference, password):
    auth = CriAuthConfig(username="alice", password=password) if password else None
    request = CriPullImageRequest(image=CriImageSpec(image=reference), auth=auth)
    return ask(machine, "PullImage", request.SerializeToString())


def test_pull_when_private_then_lazy_with_the_credentials_of_the_kubelet(kubernetes):
    layers = base_layer(), data_layer("private", size=3 << 20)
    reference = kubernetes.put("private", image_of(*layers), index=True)
    kubernetes.registry.auth = "token"
    with pytest.raises(grpc.RpcError):
        pull(kubernetes, reference, "")
    assert kubernetes.image_mounts() == []
    kubernetes.registry.requests.clear()
    assert b"sha256:" in pull(kubernetes, reference, "secret")
    labels = kubernetes.labels()
    assert list(labels) == chain_ids(*layers)
    assert {each["dev.tocsin/lazy"] for each in labels.values()} == {"true"}
    assert reference.encode() in ask(kubernetes, "ListImages", b"")
    for path, text in (("/etc/name", "private"), ("/data/private", "private" * ((3 << 20) // 7))):
        done = kubernetes.try_run(reference, "cat", path, namespace="k8s.io")
        assert (done.returncode, done.stdout) == (0, text), done.stderr


def test_pull_when_credentials_are_renewed_then_an_older_mount_uses_them(kubernetes):
    layers = base_layer(), data_layer("private", size=3 << 20)
    reference = kubernetes.put("private", image_of(*layers), index=True)
    kubernetes.registry.auth = "basic"
    pull(kubernetes, reference, "secret")
    kubernetes.registry.users["alice"] = "renewed"
    pull(kubernetes, reference, "renewed")
    time.sleep(6)  # what a registry has just refused is not tried again for 5 seconds
    done = kubernetes.try_run(reference, "cat", "/data/private", namespace="k8s.io")
    assert (done.returncode, done.stdout) == (0, "private" * ((3 << 20) // 7)), done.stderr

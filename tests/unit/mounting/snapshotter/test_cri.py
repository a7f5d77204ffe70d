"""The image service between the kubelet and containerd, with a containerd of a few lines."""

import base64
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tocsin.containerd_api.messages_pb2 import CriAuthConfig, CriImageSpec, CriPullImageRequest
from tocsin.mounting.pull_credentials import pull_credential
from tocsin.mounting.snapshotter.cri import CriImageService, credential_of

V1 = "/runtime.v1.ImageService"
ALICE = pull_credential(username="alice", password="secret")  # noqa: S106 (of a test)


class Containerd(grpc.GenericRpcHandler):
    """Records what it is asked, and answers with the same bytes."""

    def __init__(self):
        self.asked = []
        self.started = threading.Event()
        self.cancelled = threading.Event()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self.answer(details.method, request, context)
        )

    def answer(self, method, request, context):
        self.asked.append((method, request, dict(context.invocation_metadata())))
        if request == b"\x12\x00fail":
            context.set_trailing_metadata((("grpc-status-details-bin", b"details"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "no such image")
        if method.endswith("ImageFsInfo"):
            context.add_callback(self.cancelled.set)
            self.started.set()
            self.cancelled.wait(20)
        return b"\x0a" + request


class Images:
    def __init__(self):
        self.given = []

    def give_credential(self, *given):
        self.given.append(given)


class Machine:
    def __init__(self, directory):
        self.containerd = Containerd()
        self.images = Images()
        server = grpc.server(ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((self.containerd,))
        server.add_insecure_port(f"unix:{directory / 'containerd.sock'}")
        server.start()
        self.server = server
        self.address = directory / "cri.sock"
        self.service = CriImageService(self.address, directory / "containerd.sock", self.images)
        self.channel = grpc.insecure_channel(f"unix:{self.address}")

    def call(self, method, request, **options):
        return self.channel.unary_unary(method)(request, timeout=20, **options)

    def close(self):
        self.channel.close()
        self.service.close()
        self.server.stop(0).wait()


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def pull(image, auth=None):
    return CriPullImageRequest(image=CriImageSpec(image=image), auth=auth).SerializeToString()


@pytest.mark.parametrize("version", ["v1", "v1alpha2"])
@pytest.mark.parametrize("method", ["ListImages", "ImageStatus", "PullImage", "RemoveImage", "New"])
def test_request_when_of_the_image_service_then_passed_on_byte_for_byte(machine, method, version):
    path = f"/runtime.{version}.ImageService/{method}"
    request = bytes(range(256)) * 10
    answer = machine.call(path, request, metadata=(("x-trace", "1"),))
    assert answer == b"\x0a" + request
    (asked,) = machine.containerd.asked
    assert asked[:2] == (path, request)
    assert asked[2]["x-trace"] == "1"


def test_request_when_of_another_service_then_refused(machine):
    with pytest.raises(grpc.RpcError) as caught:
        machine.call("/runtime.v1.RuntimeService/Version", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert machine.containerd.asked == []


def test_request_when_containerd_fails_then_its_error_is_passed_on(machine):
    with pytest.raises(grpc.RpcError) as caught:
        machine.call(f"{V1}/ImageStatus", b"\x12\x00fail")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such image"
    assert ("grpc-status-details-bin", b"details") in [*caught.value.trailing_metadata()]


def test_request_when_containerd_is_away_then_unavailable(machine):
    machine.server.stop(0).wait()
    with pytest.raises(grpc.RpcError) as caught:
        machine.call(f"{V1}/ListImages", b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_request_when_the_kubelet_cancels_then_cancelled_in_containerd(machine):
    call = machine.channel.unary_unary(f"{V1}/ImageFsInfo").future(b"")
    assert machine.containerd.started.wait(20)
    call.cancel()
    assert machine.containerd.cancelled.wait(10)


def test_pull_when_it_has_credentials_then_given_to_mounts_and_passed_on(machine):
    auth = CriAuthConfig(username="alice", password="secret")  # noqa: S106 (of a test)
    request = pull("ghcr.io/team/app:1", auth)
    machine.call(f"{V1}/PullImage", request)
    assert machine.images.given == [("ghcr.io", "team/app", ALICE)]
    assert machine.containerd.asked[0][1] == request


@pytest.mark.parametrize(
    "request_bytes",
    [pull("ghcr.io/team/app:1"), pull("sha256:" + "0" * 64), pull("", CriAuthConfig()), b"\xff"],
)
def test_pull_when_there_is_nothing_to_take_then_passed_on(machine, request_bytes):
    machine.call(f"{V1}/PullImage", request_bytes)
    assert machine.images.given == []
    assert [each[1] for each in machine.containerd.asked] == [request_bytes]


ENCODED = base64.b64encode(b"alice:secret\0\0").decode()


# As ParseAuth of containerd.
@pytest.mark.parametrize(
    ("auth", "host", "expected"),
    [
        ({"username": "alice", "password": "secret", "auth": "x"}, "ghcr.io", ALICE),
        ({"auth": ENCODED}, "ghcr.io", ALICE),
        ({"auth": "not base64"}, "ghcr.io", None),
        ({"auth": base64.b64encode(b"alice").decode()}, "ghcr.io", None),
        ({"identity_token": "t"}, "ghcr.io", pull_credential(identity_token="t")),  # noqa: S106
        ({"registry_token": "t"}, "ghcr.io", pull_credential(registry_token="t")),  # noqa: S106
        ({}, "ghcr.io", None),
        ({"auth": ENCODED, "server_address": "ghcr.io"}, "ghcr.io", ALICE),
        ({"auth": ENCODED, "server_address": "https://ghcr.io/v2/"}, "ghcr.io", ALICE),
        ({"auth": ENCODED, "server_address": "https://other.io"}, "ghcr.io", None),
        ({"auth": ENCODED, "server_address": "https://index.docker.io/v1/"}, "docker.io", ALICE),
    ],
)
def test_credential_when_in_a_request_then_read_as_by_containerd(auth, host, expected):
    assert credential_of(CriAuthConfig(**auth), host) == expected

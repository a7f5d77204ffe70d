"""The script of ``tocsin am-i-lazy``, with lists of mounts as the kernel prints them."""

import http.server
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager

import pytest

from support.cli_in_process import tocsin
from support.tools import missing
from tocsin.cli.commands.am_i_lazy import SCRIPT

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
LAZY, NOT_LAZY, UNKNOWN = 0, 1, 3
HEX = "3f" * 32
BELOW = "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
IMAGE = f"/var/lib/tocsin-snapshotter/images/{HEX}-3/fs"
OF_SNAPSHOT = "/var/lib/tocsin-snapshotter/snapshots"
OF_SOCI = "/var/lib/soci-snapshotter-grpc/snapshotter/snapshots"
OF_CONTAINERD = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"


def overlay(lower, upper=f"{OF_SNAPSHOT}/7/fs"):
    return (
        f"79 51 0:44 / / rw,relatime - overlay overlay rw,lowerdir={lower},upperdir={upper},"
        f"workdir={upper.removesuffix('/fs')}/work,uuid=on\n"
    )


MOUNTS = {
    "fuse": ("49 27 0:43 / / ro,nosuid,nodev,noatime - fuse tocsin ro,user_id=0\n", LAZY),
    "fuse-of-a-user": ("49 27 0:43 / / ro,nosuid - fuse.tocsin tocsin ro,user_id=1000\n", LAZY),
    "erofs": ("49 27 0:43 / / ro,relatime - erofs /proc/self/fd/12 ro,user_xattr,acl\n", LAZY),
    "run": (overlay("/data/tocsin-run-8q2tp360/image", "/data/x/upper"), LAZY),
    "overlay": (overlay(IMAGE), LAZY),
    "overlay-on-a-complete-image": (overlay(f"{IMAGE[:-2]}complete"), LAZY),
    "overlay-with-relative-paths": (overlay(f"images/{HEX}-3/fs"), LAZY),
    "optional-fields": (overlay(IMAGE).replace(" - ", " master:1 shared:2 - "), LAZY),
    "layers-above": (overlay(f"{OF_SNAPSHOT}/5/fs:{IMAGE}"), LAZY),
    "layers-above-with-relative-paths": (overlay(f"snapshots/5/fs:images/{HEX}-3/fs"), LAZY),
    "root-mounted-again": (BELOW + overlay(IMAGE), LAZY),
    "pulled-with-tocsin": (overlay(f"{OF_SNAPSHOT}/5/fs:{OF_SNAPSHOT}/4/fs"), NOT_LAZY),
    "containerd": (
        overlay(f"{OF_CONTAINERD}/5/fs:{OF_CONTAINERD}/4/fs", f"{OF_CONTAINERD}/6/fs"),
        NOT_LAZY,
    ),
    "containerd-with-relative-paths": (overlay("5/fs:4/fs", f"{OF_CONTAINERD}/6/fs"), NOT_LAZY),
    "docker": (
        overlay("/var/lib/docker/overlay2/l/AB:x", "/var/lib/docker/overlay2/ab/diff"),
        NOT_LAZY,
    ),
    "soci": (overlay(f"{OF_SOCI}/5/fs", f"{OF_SOCI}/6/fs"), UNKNOWN),
    "other-erofs": ("49 27 0:43 / / ro,relatime - erofs /dev/loop0 ro\n", UNKNOWN),
    "other-fuse": ("49 27 0:43 / / ro,relatime - fuse sshfs ro\n", UNKNOWN),
    "mount-of-tocsin-elsewhere": (BELOW + "49 21 0:43 / /mnt ro - fuse tocsin ro\n", UNKNOWN),
    "short-digest": (overlay(f"/x/images/{HEX[2:]}-3/fs", "/x/1/fs"), UNKNOWN),
    "machine": (BELOW, UNKNOWN),
    "no-root": ("49 27 0:43 / /mnt ro - fuse tocsin ro\n", UNKNOWN),
    "empty": ("", UNKNOWN),
    "garbage": ("x\n\\\n* * * * / *\n", UNKNOWN),
}
WORDS = {LAZY: "lazy", NOT_LAZY: "not lazy", UNKNOWN: "unknown"}


@pytest.fixture(params=SHELLS)
def run(request):
    """A function that runs the script with one shell."""
    name, *options = SHELLS[request.param]
    shell = shutil.which(name)
    if shell is None:
        missing(f"{name} is not installed")

    def run_script(*arguments, **environment):
        return subprocess.run(  # noqa: S603 (our own script)
            [shell, *options, SCRIPT, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": os.environ["PATH"], "no_proxy": "127.0.0.1", **environment},
        )

    return run_script


@pytest.mark.parametrize("name", MOUNTS)
def test_script_when_mounts_are_listed_then_lazy_or_not(run, name, tmp_path):
    text, code = MOUNTS[name]
    file = tmp_path / "mountinfo"
    file.write_text(text)
    done = run(file)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.startswith(f"{WORDS[code]}: ")
    assert done.stdout.count("\n") == 1


def test_script_when_layers_are_above_the_mount_then_it_says_so(run, tmp_path):
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS["layers-above"][0])
    assert run(file).stdout == (
        "lazy: lower layers are a mount of tocsin; the layers above them were unpacked\n"
    )


def test_script_when_the_list_is_missing_then_unknown(run, tmp_path):
    done = run(tmp_path / "missing")
    assert (done.returncode, done.stdout) == (
        UNKNOWN,
        f"unknown: {tmp_path}/missing cannot be read\n",
    )


@pytest.fixture
def downloads():
    """A program that downloads a page: the script uses curl or wget."""
    if shutil.which("curl") is None and shutil.which("wget") is None:
        missing("neither curl nor wget is installed")


@contextmanager
def task_metadata(body, status=200):
    """Serve a document as the task metadata endpoint of Amazon ECS does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v4/id"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"DockerId":"1","Snapshotter":"soci","Name":"a"}', 200, LAZY),
        ('{\n  "Snapshotter" : "soci"\n}', 200, LAZY),
        ('{"Snapshotter":"overlayfs"}', 200, NOT_LAZY),
    ],
)
@pytest.mark.usefixtures("downloads")
def test_script_when_fargate_reports_a_snapshotter_then_it_decides(run, body, status, code):
    with task_metadata(body, status) as url:
        done = run(ECS_CONTAINER_METADATA_URI_V4=url)
    assert (done.returncode, done.stderr) == (code, "")
    assert "AWS Fargate" in done.stdout


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 200),
        ('{"Name":"soci"}', 200),
        ('{"Snapshotter":null}', 200),
        ('{"Snapshotter":"new"}', 200),
        ('{"Snapshotter":"soci"}', 500),
    ],
)
def test_script_when_fargate_reports_nothing_then_mounts_decide(run, body, status):
    with task_metadata(body, status) as url:
        done = run(ECS_CONTAINER_METADATA_URI_V4=url)
    assert (done.returncode, done.stderr) == (run().returncode, "")
    assert "AWS Fargate" not in done.stdout


def test_script_when_neither_wget_nor_curl_exists_then_mounts_decide(run):
    done = run(ECS_CONTAINER_METADATA_URI_V4="http://127.0.0.1:1/", PATH="/nothing")
    assert (done.returncode, done.stderr) == (run().returncode, "")


def test_command_when_printed_then_the_script():
    done = tocsin("am-i-lazy", "--print")
    assert (done.returncode, done.stdout) == (0, SCRIPT.read_bytes())


def test_command_when_run_then_its_output_and_exit_code_are_the_scripts():
    wanted = subprocess.run(  # noqa: S603 (our own script)
        ["/bin/sh", SCRIPT], capture_output=True, check=False, timeout=60
    )
    done = tocsin("am-i-lazy")
    assert (done.returncode, done.stdout) == (wanted.returncode, wanted.stdout)


def test_command_when_pid_then_the_mounts_of_that_process():
    done = tocsin("am-i-lazy", "--pid", str(2**22 + 1))
    assert (done.returncode, done.stdout) == (
        UNKNOWN,
        f"unknown: /proc/{2**22 + 1}/mountinfo cannot be read\n".encode(),
    )

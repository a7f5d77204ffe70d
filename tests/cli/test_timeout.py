"""``--timeout`` bounds each wait, on the command line and from the environment."""

import pytest

from support.cli_process import tocsin
from support.raw_server import RawServer

SECONDS = "0.3"


@pytest.mark.parametrize(
    ("options", "environment"),
    [(("--timeout", SECONDS), {}), ((), {"TOCSIN_TIMEOUT": SECONDS})],
    ids=["option", "environment"],
)
def test_a_server_that_stalls_is_given_up(options, environment):
    def stall(method, path):
        server.wait(60)
        return []

    server = RawServer(stall)
    with server:
        done = tocsin("info", f"{server.host}/app:1", *options, **environment)
    assert done.returncode == 6
    assert b"timed out" in done.stderr


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan"])
def test_a_timeout_that_is_not_one_is_wrong_usage(value):
    assert tocsin("info", "oci:nowhere", "--timeout", value).returncode == 2

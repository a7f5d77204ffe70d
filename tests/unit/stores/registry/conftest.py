import pytest

from support.registry import Registry


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch, tmp_path):
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def elsewhere():
    """A second server, so another origin."""
    with Registry() as running:
        yield running

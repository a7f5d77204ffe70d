import pytest

from support.registry import Registry
from tocsin.stores.registry import certificates


@pytest.fixture(autouse=True)
def disks():
    """Use the real disks."""


@pytest.fixture(autouse=True)
def isolated_configuration(monkeypatch, tmp_path):
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(certificates, "SYSTEM_DIRECTORIES", ())


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def elsewhere():
    """A second server, which is another origin."""
    with Registry() as running:
        yield running

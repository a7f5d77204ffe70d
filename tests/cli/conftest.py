from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cli_inputs import Files, put_files, put_image
from tocsin.stores.http.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

    from support.images import Image


@pytest.fixture(autouse=True)
def _no_waiting_for_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries of commands in this process do not wait."""
    monkeypatch.setattr(Clock, "backoff", lambda _clock, _failures: 0.0)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A layer with every kind of entry, and its zTOC; tests must not change them."""
    return put_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with an image tagged ``app``."""
    put_image(tmp_path / "layout")
    return tmp_path / "layout"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image that `layout` holds."""
    return put_image(tmp_path_factory.mktemp("image") / "layout")

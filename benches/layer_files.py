"""The compressed layers of a corpus made with `corpus.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COMPRESSIBLE = ("rootfs", "ml", "node", "text")


@dataclass(frozen=True)
class LayerFile:
    """One compressed layer of a corpus."""

    name: str
    path: Path
    size: int  # uncompressed, in bytes

    def read_once(self) -> None:
        """Read the file into the page cache, so that no measured run waits for the disk."""
        with self.path.open("rb") as file:
            while file.read(1 << 20):
                pass


def corpus_layers(corpus: Path, compressor: str) -> list[LayerFile]:
    """Return the layers of the corpus that this compressor wrote."""
    layers = []
    for name, description in _description(corpus)["layers"].items():
        path = corpus / f"{name}.{compressor}.gz"
        if "compressed" not in description:  # a pathological layer, which exists only once
            path = corpus / f"{name}.gz"
        if path.exists():
            layers.append(LayerFile(name, path, description["bytes"]))
    if not layers:
        raise SystemExit(f"{corpus}: no layer compressed with {compressor}")
    return layers


def corpus_compressors(corpus: Path) -> list[str]:
    """Return the names of the compressors used in the corpus, in its order."""
    found: Iterable[str] = (
        name
        for description in _description(corpus)["layers"].values()
        for name in description.get("compressed", ())
    )
    return list(dict.fromkeys(found))


def _description(corpus: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((corpus / "corpus.json").read_text("utf-8"))
    except OSError as error:
        raise SystemExit(f"{corpus}: not a corpus (see corpus.py): {error}") from error
    if "layers" not in description:
        raise SystemExit(f"{corpus}: incomplete corpus, run corpus.py again")
    return description

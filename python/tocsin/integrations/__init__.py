"""Indexing as a step of a build system; docs/build-systems.md describes each of them.

A step writes a stamp: a small JSON file with the digests of the image and of what was made from it.
The step is up to date as long as both still resolve to these digests.
"""

from __future__ import annotations

from tocsin.integrations.progress import log_progress
from tocsin.integrations.stamp import image_signature, index_image, is_up_to_date

__all__ = ["image_signature", "index_image", "is_up_to_date", "log_progress"]

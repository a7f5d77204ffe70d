"""Options that several benches share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import peers

if TYPE_CHECKING:
    import argparse


def add_programs(parser: argparse.ArgumentParser) -> None:
    """Let our command and the interpreter be named."""
    parser.add_argument(
        "--tocsin",
        default=peers.BUILD,
        metavar="COMMAND",
        help=f"our command (default: {peers.BUILD})",
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="interpreter of the environment with tocsin and the Python peers (default: this one)",
    )


def add_record(parser: argparse.ArgumentParser) -> None:
    """Let the record be written elsewhere, or not at all."""
    parser.add_argument("--record", type=Path, metavar="DIR", help="write the record there")
    parser.add_argument("--no-record", action="store_true", help="only print")

"""Options shared by several benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import peers

if TYPE_CHECKING:
    import argparse


def add_programs(parser: argparse.ArgumentParser) -> None:
    """Add options for the tocsin command and the interpreter."""
    parser.add_argument(
        "--tocsin",
        default=peers.BUILD,
        metavar="COMMAND",
        help=f"tocsin command to measure (default: {peers.BUILD})",
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="interpreter with tocsin and the Python peers installed (default: this one)",
    )


def add_record(parser: argparse.ArgumentParser) -> None:
    """Add options for where to write the record."""
    parser.add_argument(
        "--record", type=Path, metavar="DIR", help="directory to write the record to"
    )
    parser.add_argument(
        "--no-record", action="store_true", help="print the report without recording it"
    )

"""Exit codes of the process. They are stable, since scripts rely on them."""

from __future__ import annotations

OK = 0
FAILED = 1
"""Invalid input, or verification failed."""
USAGE = 2
NOT_FOUND = 3
UNSUPPORTED = 4
"""Valid input that is not supported, or nothing to index."""
IO_ERROR = 5
"""Disk full, permission denied, broken device."""
REGISTRY = 6
"""A registry refused a request or could not be reached, or a credential is missing or wrong; or the
engine of a fleet could not be reached."""
SIGNAL = 128
"""Plus the number of the signal: 130 for Ctrl-C, 143 for SIGTERM."""

EPILOG = """\b
Exit codes:
  0    success
  1    failed: invalid input, or a digest that does not match
  2    wrong usage
  3    not found: no such file, image, tag or path
  4    not supported, or nothing to index
  5    input/output error: disk full, permission denied
  6    registry refused, unreachable, or a credential missing or wrong
  130  interrupted (Ctrl-C); 143 if terminated. No partial output is left.
"""

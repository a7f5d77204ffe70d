"""What the process ends with. Stable: scripts rely on it."""

from __future__ import annotations

OK = 0
FAILED = 1
"""Bad input, or something did not verify."""
USAGE = 2
NOT_FOUND = 3
UNSUPPORTED = 4
"""Valid, but not done here; or there was nothing to index."""
IO_ERROR = 5
"""Disk full, no permission, a broken device."""
REGISTRY = 6
"""A registry refused, or could not be reached; a credential that is missing or wrong too."""
SIGNAL = 128
"""And the number of the signal: 130 for Ctrl-C, 143 for SIGTERM."""

EPILOG = """\b
Exit codes:
  0    done
  1    failed: bad input, or a digest that does not match
  2    wrong usage
  3    not found: no such file, image, tag or path
  4    not supported here, or nothing to index
  5    input/output error: disk full, no permission
  6    a registry refused or was not reached; no credential, or a wrong one
  130  interrupted (Ctrl-C); 143 terminated. Nothing half-made is left.
"""

"""The logger ``tocsin``. It prints nothing unless the calling program configures logging.

DEBUG: each HTTP request, response and retry, without secrets. INFO: layers that were read in full
or skipped, and why. WARNING: something that is ignored because it is broken or because a registry
refused it; the command line prints these.
"""

from __future__ import annotations

import logging

LOG = logging.getLogger("tocsin")
# Without a handler, Python prints warnings to stderr when logging is not configured.
LOG.addHandler(logging.NullHandler())

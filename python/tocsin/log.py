"""The logger ``tocsin``. Nothing is printed unless the program that uses tocsin asks for it.

DEBUG: each request to a registry or web server, each answer and each retry, without secrets. INFO:
that a layer had to be read in full, or was left out, and why. WARNING: something that is not used
because it is broken or a registry refuses it; the command line shows these.
"""

from __future__ import annotations

import logging

LOG = logging.getLogger("tocsin")
# Or Python prints warnings of programs that have set up no logging.
LOG.addHandler(logging.NullHandler())

"""tocsin: make container images start before they have arrived.

Makes SOCI indexes of container images, byte for byte as the reference does, in one pass and without
root, Docker or containerd.
"""

from tocsin.errors import (
    AuthError,
    FormatError,
    GzipError,
    NotFoundError,
    RegistryError,
    TarError,
    TocsinError,
    UnsupportedError,
    VerificationError,
    ZtocError,
)

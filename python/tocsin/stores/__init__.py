"""Stores of images: registries, OCI layouts and archives.

Every store implements the protocols of `base`: a `Source` can be read, a `Sink` can also be
written. `opening` opens the store that a reference names. This room does not know about zTOCs.
"""

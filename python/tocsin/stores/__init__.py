"""Places that hold images: bytes in, bytes out.

Every place looks the same through the protocols of `base`: a `Source` is read from, a `Sink` is
written to as well. `opening` gives the one that a reference names. This room knows nothing of
zTOCs.
"""

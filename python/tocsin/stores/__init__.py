"""Places that hold images: bytes in, bytes out.

Every place looks the same through the `base.Store` protocol; `opening.open_store` gives the one
that a reference names. This room knows nothing of zTOCs.
"""

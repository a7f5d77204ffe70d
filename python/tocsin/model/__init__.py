"""Values of images: digests, references, platforms, descriptors, manifests.

Nothing in this room opens, fetches or writes anything; it imports only ``tocsin.errors``.
The law for the bytes is the OCI image specification 1.1.1 as Go's ``encoding/json`` prints it.
"""

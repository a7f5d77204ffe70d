"""Value types: digests, references, platforms, descriptors, manifests.

Modules here do no I/O and import no other room. The bytes of documents follow the OCI image
specification 1.1.1 and Go's ``encoding/json``.
"""

"""Images in a store: resolving references, finding SOCI indexes, copying."""

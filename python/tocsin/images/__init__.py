"""Images of a store: which one a reference means, which indexes it has, copies of it."""

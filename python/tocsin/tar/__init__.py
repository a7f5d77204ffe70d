"""tar and gzip headers, always parsed by the core so that every reader sees the same files."""

"""tar and gzip headers as the core reads them: one dialect for whoever reads a header."""

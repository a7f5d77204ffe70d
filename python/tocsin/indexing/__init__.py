"""Indexes images: builds zTOCs of layers, SOCI indexes and converted images."""

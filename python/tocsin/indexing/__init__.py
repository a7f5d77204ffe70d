"""Making an index of an image: zTOCs of its layers, the SOCI index, the converted image."""

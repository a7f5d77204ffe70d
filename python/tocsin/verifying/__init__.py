"""Verifying indexes against the images they describe."""

"""Mounting an image as a file system: a process for each mount loads the image behind it."""

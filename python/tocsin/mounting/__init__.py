"""Mounting an image as a file system: a process for each mount, which loads the image behind it."""

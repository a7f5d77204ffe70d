"""Using an index: the files of an image, read by their spans, each verified before it is used."""

"""One layer, whatever store it comes from: its zTOC, the pass that makes it, its spans."""

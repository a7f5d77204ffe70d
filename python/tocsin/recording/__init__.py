"""Access logs of an image: stored beside it, and what they list in it."""

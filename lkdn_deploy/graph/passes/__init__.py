"""The rewrites of float32 graphs, one a module."""

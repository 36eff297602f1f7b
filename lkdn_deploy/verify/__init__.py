"""Comparison of two ways to compute the same thing, and how far apart they may be."""

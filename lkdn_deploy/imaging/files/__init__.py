"""Image files to pictures and back, keeping what a file says: depth, transparency, profile, EXIF, resolution.

``read`` and ``write`` are the doors; ``picture`` is the value between them.
"""

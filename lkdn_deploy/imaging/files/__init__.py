"""Image files to pictures and back, keeping depth, transparency, colour profile, EXIF and resolution.

``formats`` is the one table of formats, with a module for each that Pillow alone does not serve; ``read`` and ``write``
are the entry points, and a ``picture.Picture`` is what they exchange.
"""

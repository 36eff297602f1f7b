"""Small pictures as the bodies that schemathesis sends."""

import schemathesis
from hypothesis import strategies
from running_service import picture

sides = strategies.integers(1, 24)
for media_type, kind in (
    ("image/png", "PNG"),
    ("image/jpeg", "JPEG"),
    ("image/webp", "WEBP"),
    ("image/tiff", "TIFF"),
    ("image/bmp", "BMP"),
    ("image/avif", "AVIF"),
    ("image/jxl", "PNG"),
    ("image/gif", "GIF"),
    ("application/octet-stream", "PNG"),
):
    pictures = strategies.builds(picture, sides, sides, strategies.just(kind), strategies.sampled_from(["L", "RGB"]))
    schemathesis.openapi.media_type(media_type, pictures)

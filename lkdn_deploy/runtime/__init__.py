"""An image in, a larger image out: sessions and imaging put together."""

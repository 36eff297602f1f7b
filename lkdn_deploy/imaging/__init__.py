"""Images as arrays: files, pixel layout, tiles, resampling, quality metrics. numpy, Pillow; imagecodecs for 16 bits."""

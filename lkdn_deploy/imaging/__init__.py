"""Images as arrays: files, pixel layout, tiles, resampling, quality metrics. numpy and Pillow only."""

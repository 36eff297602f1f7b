"""Films: their pictures go through a network, everything else is copied.

``frames`` gives the upscaled pictures one after the other; ``rendering`` makes a new film, in segments that a later run
continues from. PyAV decodes, converts, encodes and writes; it comes with the extra ``video``.
"""

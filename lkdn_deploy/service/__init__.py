"""The HTTP service of ``lkdn-serve``: pictures in, larger pictures out.

A request is checked and queued in the event loop of one process (app, gate, desk). Worker processes (pool) carry it
out: they decode, upscale and encode in memory (worker). What a picture does to a worker happens to no other request.
"""

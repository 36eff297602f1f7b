"""Errors, exit codes, the network's specification, artefact metadata, the cache: what every room may use.

It needs nothing but the standard library, platformdirs and psutil.
"""

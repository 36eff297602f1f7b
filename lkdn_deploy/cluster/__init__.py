"""``lkdn-upscale --ray``: the files of one run, upscaled by the workers of a Ray cluster.

The driver plans the jobs as for one machine, gives them to workers in small lots, and replaces workers that are lost
(driver, lots, nodes). A worker opens the network once and runs the pipeline of one machine (actor). One process writes
the journal (scribe). Files that fsspec opens are staged by the workers (staging, stores).
"""

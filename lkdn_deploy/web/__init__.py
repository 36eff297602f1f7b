"""Networks for the browser: a folder for any static host, with a page, a JavaScript package, and networks for both.

``static``     is what does not depend on the networks: the package (``lkdn.mjs``) and the page (``index.html``).
``catalogue``  compiles networks, and describes them as the package reads it (``models.json``).
``naming``     names files by their content, and rewrites what refers to them.
``folder``     puts all of it into a folder.
``server``     serves such a folder on this machine, for trying.
"""

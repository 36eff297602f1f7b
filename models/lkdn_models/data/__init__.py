"""Photographs -> batches of random crops.

``folders`` finds the files, ``plan`` tells what they will take, ``cache`` keeps them decoded in a ``pack``, ``photos``
is the door to these; ``crops`` draws from the photographs, ``workers`` does so in other processes.
"""

from lkdn_models.data.cache import LIMIT, default_folder
from lkdn_models.data.crops import CropSettings, CropSource
from lkdn_models.data.pack import Photo
from lkdn_models.data.photos import Photos, open_photos
from lkdn_models.data.workers import batches

__all__ = [
    "LIMIT",
    "CropSettings",
    "CropSource",
    "Photo",
    "Photos",
    "batches",
    "default_folder",
    "open_photos",
]

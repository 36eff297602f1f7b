"""Photographs to batches of random crops.

``folders`` finds the files, ``decoded`` keeps their pixels in the user's cache, ``photos`` chooses those to train on;
``random_crops`` draws from them, ``workers`` does so in other processes.
"""

from lkdn_models.data.decoded import LIMIT, Photo, default_folder
from lkdn_models.data.photos import Photos, open_photos
from lkdn_models.data.random_crops import CropSettings, CropSource
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

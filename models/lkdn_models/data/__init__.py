"""Photographs to batches of random crops.

``folders`` finds the files, ``decoded`` keeps their pixels in the user's cache, ``photos`` chooses those to train on;
``random_crops`` draws from them, the hard ones with ``hard_places``; ``workers`` does so in other processes.
"""

from lkdn_models.data.decoded import LIMIT as LIMIT
from lkdn_models.data.decoded import Photo as Photo
from lkdn_models.data.decoded import default_folder as default_folder
from lkdn_models.data.photos import Photos as Photos
from lkdn_models.data.photos import open_photos as open_photos
from lkdn_models.data.random_crops import CropSettings as CropSettings
from lkdn_models.data.random_crops import CropSource as CropSource
from lkdn_models.data.workers import batches as batches

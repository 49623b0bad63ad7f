"""Images to train on; imports no torch, but for :mod:`nasplug.images.batches`."""

from nasplug.images.base import Images, Split
from nasplug.images.catalog import load_images

__all__ = ["Images", "Split", "load_images"]

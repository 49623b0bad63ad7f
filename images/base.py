"""What networks are trained on: images in three fixed parts, normalised.

Shapes: n images of a part; pixels are ``(n, channels, height, width)``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import DataError

__all__ = ["Images", "Raw", "Split", "normalised", "stratified"]

SPLIT_SEED = 0
"""Of every split: a split is part of a data set here, not of a run."""

Raw = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels ``(n, channels, height, width)`` and labels ``(n,)``, as a file has them."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images float32 ``(n, channels, height, width)``, normalised, and their labels int64 ``(n,)``."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Images:
    """A data set in three parts that share no image.

    Attributes:
        name: what it is called.
        train: what networks are fitted on.
        valid: what a search sees.
        test: what a report shows.
        classes: number of labels.
        crop: pixels of padding of a random crop in training, which is then also mirrored at random; 0 for neither.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    classes: int
    crop: int = 0

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train.images.shape[1])

    def checksum(self) -> str:
        """Return a digest of all pixels and labels."""
        digest = hashlib.blake2b(digest_size=16)
        for split in (self.train, self.valid, self.test):
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()


def stratified(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of ``labels (n,)`` in a fixed random order of which every prefix has each class in its share."""
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    _, inverse, counts = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    place = np.empty(len(labels))  # within its class, from 0 to 1
    for label, count in enumerate(counts):
        place[inverse == label] = (np.arange(count) + 0.5) / count
    order: NDArray[np.int64] = shuffled[np.argsort(place, kind="stable")]
    return order


def normalised(name: str, train: Raw, valid: Raw, test: Raw, *, classes: int, crop: int = 0) -> Images:
    """Return the three parts of a data set, each channel with mean 0 and deviation 1 over the training part.

    Args:
        name: of the data set.
        train, valid, test: pixels uint8 ``(n, channels, height, width)`` with labels ``(n,)``.
        classes: number of labels.
        crop: see :class:`Images`.

    Raises:
        DataError: a channel without contrast.
    """
    value = np.arange(256)
    moments = []
    for channel in range(train[0].shape[1]):
        # Sums of integers, so that no machine's order of additions can change a checksum.
        count = np.bincount(train[0][:, channel].ravel(), minlength=256)
        mean = (count * value).sum() / count.sum()
        moments.append((mean, np.sqrt((count * value**2).sum() / count.sum() - mean**2)))
    mean, deviation = np.array(moments, dtype=np.float32).T[:, None, :, None, None]
    if not deviation.all():
        raise DataError(f"{name}: a colour channel is the same everywhere in the training images; get the files again")
    ready = [Split((pixels - mean) / deviation, labels) for pixels, labels in (train, valid, test)]
    return Images(name, ready[0], ready[1], ready[2], classes, crop)

"""The data sets by name: scikit-learn's digits out of the box, CIFAR from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from nasplug.errors import InputError, UnknownNameError
from nasplug.images.base import Images, normalised, stratified
from nasplug.images.cifar import cifar

__all__ = ["DATASETS", "load_images"]


def digits(root: Path | None = None) -> Images:
    """Return scikit-learn's 1,797 digits of 8x8 pixels: 500 to train on, 600 for validation, 697 for test.

    The training part is small on purpose: with most of the images in it nearly every network is right nearly always,
    and a large test part is what tells two good networks apart.
    """
    from sklearn.datasets import load_digits

    if root is not None:
        raise InputError(f"digits come with scikit-learn and take no folder, got {root}")
    loaded = load_digits()
    pixels, labels = loaded.images[:, None].astype(np.uint8), loaded.target.astype(np.int64)
    train, valid, test = ((pixels[rows], labels[rows]) for rows in np.split(stratified(labels), [500, 1100]))
    return normalised("digits", train, valid, test, classes=10)


DATASETS: Mapping[str, Callable[[Path | None], Images]] = {
    "digits": digits,
    "cifar10": partial(cifar, "cifar10"),
    "cifar100": partial(cifar, "cifar100"),
}
"""Data sets by name; each takes the folder its files are in."""


def load_images(name: str, root: Path | None = None) -> Images:
    """Return a data set.

    Args:
        name: a key of :data:`DATASETS`.
        root: the folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``, torchvision's layout.

    Raises:
        UnknownNameError: another name.
        DataError: files that are missing, damaged or not what they should be.
    """
    if name not in DATASETS:
        raise UnknownNameError("image data set", name, DATASETS)
    return DATASETS[name](root)

"""What a supernet sees: one half of the images to learn weights from, the other to choose an architecture on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nasplug.errors import InputError
from nasplug.images import Images
from nasplug.images.base import stratified
from nasplug.images.batches import augmented

__all__ = ["Halves", "Part", "halves", "report_part", "require_device"]


@dataclass(frozen=True, eq=False)
class Part:
    """Images ``(n, channels, height, width)`` and labels ``(n,)``, on one device.

    Raises: InputError for fewer than two images, or images of one class.
    """

    name: str
    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        classes = len(torch.unique(self.labels))
        if len(self.labels) < 2 or classes < 2:
            raise InputError(
                f"the {self.name} half has {len(self.labels)} images of {classes} classes; a search needs at least 2 "
                "of each: give it more images, or another share"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, seed: Sequence[int], *, crop: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's images and labels in random order, whole batches only, or one of all where there are fewer.

        Args:
            size: images a batch.
            seed: what order and augmentation depend on, such as the run's seed and the epoch.
            crop: pixels of padding of a random crop, which is then also mirrored at random; 0 for neither.
        """
        rng = np.random.default_rng(list(seed))
        order = torch.from_numpy(rng.permutation(len(self))).to(self.labels.device)
        size = min(size, len(self))
        for rows in torch.split(order[: len(self) // size * size], size):
            images = self.images[rows]
            yield (augmented(images, crop, rng) if crop else images), self.labels[rows]

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images and labels in their fixed order, in parts of equal size, up to one, of at most ``size``."""
        parts = -(-len(self) // size)
        yield from zip(torch.tensor_split(self.images, parts), torch.tensor_split(self.labels, parts), strict=True)


@dataclass(frozen=True, eq=False)
class Halves:
    """The training and validation images of a data set, parted again, class by class; test images are in neither.

    Attributes:
        weights: what weights are trained on.
        selection: what architecture parameters are trained on, and architectures compared.
        classes: number of labels.
        crop: of the augmentation in training (:class:`nasplug.images.Images`).
    """

    weights: Part
    selection: Part
    classes: int
    crop: int

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.weights.images.shape[1])

    @property
    def side(self) -> int:
        """Pixels of a side of an image."""
        return int(self.weights.images.shape[-1])


def halves(images: Images, *, share: float = 0.5, device: str = "cpu") -> Halves:
    """Return the halves of a data set; they are the same for every seed.

    Args:
        images: the data set.
        share: of the images that weights are trained on; the others are for selection.
        device: where they are kept.

    Raises: InputError for a share outside (0, 1), for a part that is empty or of one class, for an unknown device.
    """
    if not 0 < share < 1:
        raise InputError(f"the share of images that weights are trained on is between 0 and 1, got {share}")
    where = require_device(device)
    pixels = np.concatenate([images.train.images, images.valid.images])
    labels = np.concatenate([images.train.labels, images.valid.labels])
    order = stratified(labels)
    weights, selection = (
        Part(name, torch.from_numpy(pixels[rows]).to(where), torch.from_numpy(labels[rows]).to(where))
        for name, rows in zip(("training", "selection"), np.split(order, [round(share * len(order))]), strict=True)
    )
    return Halves(weights, selection, images.classes, images.crop)


def report_part(images: Images, *, device: str = "cpu") -> Part:
    """Return the test images of a data set, for reports; nothing is trained or chosen on them."""
    where = require_device(device)
    return Part("test", torch.from_numpy(images.test.images).to(where), torch.from_numpy(images.test.labels).to(where))


def require_device(name: str) -> torch.device:
    """Return a device of torch; raises InputError where this machine has none of that name."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"torch has no device {name!r} here ({str(error).splitlines()[0]}); use cpu") from error
    return device

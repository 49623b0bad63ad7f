"""CIFAR-10 and CIFAR-100 from the files that their authors publish and torchvision downloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import DataError, InputError
from nasplug.images.base import Images, Raw, normalised, stratified
from nasplug.unpickling import ARRAY_NAMES, PickledArray, load_pickle

__all__ = ["cifar", "superclasses"]

LARGEST_FILE = 2**29
"""Bytes of a file that is read at all; CIFAR-100's training images are 148 MiB."""

SIDE = 32
CROP = 4
"""Pixels of padding in training, what nearly all that is published uses."""


@dataclass(frozen=True)
class _Layout:
    """Where the images of a data set are, under a root."""

    folder: str
    train: Sequence[str]
    test: str
    labels: str
    classes: int
    download: str


_LAYOUTS = {
    "cifar10": _Layout(
        "cifar-10-batches-py", [f"data_batch_{k}" for k in range(1, 6)], "test_batch", "labels", 10, "CIFAR10"
    ),
    "cifar100": _Layout("cifar-100-python", ["train"], "test", "fine_labels", 100, "CIFAR100"),
}


def cifar(name: Literal["cifar10", "cifar100"], root: Path | None) -> Images:
    """Return CIFAR with its test images for test, and its others four to one for training and validation.

    The split is drawn class by class and is always the same: 40,000 and 10,000 of the 50,000 images there are, in
    proportion where the files hold fewer. Training crops and mirrors at random (:class:`Images`).

    Args:
        name: which one.
        root: the folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``.

    Raises:
        InputError: no root.
        DataError: a folder or file that is missing, damaged, larger than 512 MiB, a pickle that asks for code, or
            images and labels that are not CIFAR's.
    """
    layout = _LAYOUTS[name]
    if root is None:
        raise InputError(f"{name} needs the folder that holds {layout.folder}; {_remedy(layout)}")
    folder = root / layout.folder
    if not folder.is_dir():
        inside = f"; {root} is itself such a folder: name the one above it" if root.name == layout.folder else ""
        raise DataError(f"no folder {folder}, in which {name} is expected{inside}; {_remedy(layout)}")
    lacking = [file for file in (*layout.train, layout.test) if not (folder / file).is_file()]
    if lacking:
        raise DataError(f"{folder} lacks {', '.join(lacking)}; {_remedy(layout)}")
    batches = [_read(folder / file, layout) for file in layout.train]
    sizes = [len(labels) for _, labels in batches]
    if len(set(sizes)) > 1:
        raise DataError(
            f"{folder}: the training files hold {', '.join(map(str, sizes))} images and should hold the same number; "
            f"{_remedy(layout)}"
        )
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if len(labels) < 5:
        raise DataError(f"{folder} holds {len(labels)} images to train on, too few for a split of four to one")
    train, valid = np.split(stratified(labels), [len(labels) - len(labels) // 5])
    return normalised(
        name,
        (pixels[train], labels[train]),
        (pixels[valid], labels[valid]),
        _read(folder / layout.test, layout),
        classes=layout.classes,
        crop=CROP,
    )


def _remedy(layout: _Layout) -> str:
    files = ", ".join((*layout.train, layout.test))
    return (
        f"expected ROOT/{layout.folder}/ with {files}: "
        f"torchvision.datasets.{layout.download}(ROOT, download=True) fetches and unpacks them"
    )


def superclasses(root: Path | None) -> dict[str, tuple[int, ...]]:
    """Return CIFAR-100's groups of classes, ``superclass-0`` on, as its training file pairs fine and coarse labels.

    Raises: InputError without a root; DataError for a file that is missing, damaged or pairs a class with two groups.
    """
    layout = _LAYOUTS["cifar100"]
    if root is None:
        raise InputError(f"cifar100 needs the folder that holds {layout.folder}; {_remedy(layout)}")
    path = root / layout.folder / layout.train[0]
    content = _content(path, layout)
    fine, coarse = (_array(content, key, path, layout) for key in (layout.labels, "coarse_labels"))
    if fine.dtype.kind not in "iu" or coarse.dtype.kind not in "iu" or fine.ndim != 1 or fine.shape != coarse.shape:
        raise DataError(f"{path}: {layout.labels} and coarse_labels must be as many integers each; {_remedy(layout)}")
    pairs = sorted(set(zip(coarse.tolist(), fine.tolist(), strict=True)))
    if len({label for _, label in pairs}) != len(pairs):
        raise DataError(f"{path} puts a class into two superclasses; {_remedy(layout)}")
    return {
        f"superclass-{group}": tuple(label for one, label in pairs if one == group)
        for group in sorted({group for group, _ in pairs})
    }


def _content(path: Path, layout: _Layout) -> dict[Any, Any]:
    """Return the dictionary of one file."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise DataError(f"{path} has {size:,} bytes, more than the {LARGEST_FILE:,} that CIFAR can have")
        content = load_pickle(path.read_bytes(), str(path), ARRAY_NAMES)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds {type(content).__name__}, not CIFAR's dictionary; {_remedy(layout)}")
    return content


def _read(path: Path, layout: _Layout) -> Raw:
    """Return the images and labels of one file."""
    content = _content(path, layout)
    pixels, labels = _array(content, "data", path, layout), _array(content, layout.labels, path, layout)
    wide = 3 * SIDE * SIDE
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != wide or not len(pixels):
        raise DataError(f"{path}: data must be uint8 of shape (n, {wide}), got {pixels.dtype} {pixels.shape}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(pixels),):
        raise DataError(
            f"{path}: {layout.labels} must be {len(pixels)} integers, one an image, got {labels.dtype} {labels.shape}"
        )
    if not 0 <= labels.min() <= labels.max() < layout.classes:
        raise DataError(
            f"{path}: {layout.labels} must lie in 0..{layout.classes - 1}, got {labels.min()}..{labels.max()}"
        )
    return pixels.reshape(-1, 3, SIDE, SIDE), labels.astype(np.int64)


def _array(content: dict[Any, Any], key: str, path: Path, layout: _Layout) -> NDArray[Any]:
    """Return an array or a list of a file; its keys are bytes where Python 3 wrote it."""
    found = content.get(key, content.get(key.encode()))
    if found is None:
        raise DataError(f"{path} has no {key!r}, it holds {', '.join(map(repr, content))[:200]}; {_remedy(layout)}")
    if isinstance(found, PickledArray):
        return found.values
    try:
        return np.asarray(found)
    except ValueError as error:  # lists of unequal lengths
        raise DataError(f"{path}: {key!r} is not an array ({error}); {_remedy(layout)}") from error

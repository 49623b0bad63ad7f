"""Tables that this project measured by training: from a finished build to packaged data, and from there to a table.

Packaged is one compressed file a table: correct answers as counts, losses to three digits, of the canonical classes
alone. Opened, every architecture of the space has the labels of its class, and parameters and FLOPs of its own.

Shapes: c canonical classes; t training seeds; e epochs; r architectures of the space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.table import Table, TableInfo
from nasplug.benchmarks.trained.build import PLANS, Plan, read_curves, read_seconds
from nasplug.benchmarks.trained.metrics import METRICS
from nasplug.errors import DataError
from nasplug.files import write_whole
from nasplug.images import load_images
from nasplug.spaces.modules import complexity

__all__ = ["Packed", "digest", "pack", "packaged", "read_packed", "to_table"]

_MISSING = np.iinfo(np.uint16).max  # a training that diverged
_LARGEST_LOSS = float(np.finfo(np.float16).max)
_ACCURACIES = [k for k, name in enumerate(METRICS) if not name.endswith("_loss")]
_LOSSES = [k for k, name in enumerate(METRICS) if name.endswith("_loss")]


@dataclass(frozen=True, eq=False)
class Packed:
    """What a packaged file holds.

    Attributes:
        facts: what the labels depend on, and with what they were measured.
        correct: right answers ``(c, t, e, 3)`` on train, valid and test.
        losses: mean cross entropy ``(c, t, e, 3)``.
        epoch_s: CPU seconds of one epoch of training alone, ``(c,)``.
    """

    facts: Mapping[str, Any]
    correct: NDArray[np.uint16]
    losses: NDArray[np.float16]
    epoch_s: NDArray[np.float32]


def pack(name: str, folder: Path, path: Path, *, seeds: int = 3) -> None:
    """Write a finished build as one packaged file; raises DataError while a part of it is missing."""
    import torch

    plan = PLANS[name]
    curves = read_curves(plan, folder, seeds)
    sizes = np.array(list(_sizes(plan).values()))
    diverged = np.isnan(curves).any(axis=3, keepdims=True)
    counts = np.where(diverged, _MISSING, np.rint(np.nan_to_num(curves[..., _ACCURACIES]) * sizes))
    facts = plan.facts() | {"seeds": seeds, "torch": torch.__version__}
    arrays = {
        "facts": np.array(json.dumps(facts)),
        "correct": counts.astype(np.uint16),
        "losses": np.minimum(curves[..., _LOSSES], _LARGEST_LOSS).astype(np.float16),
        "epoch_s": read_seconds(plan, folder).astype(np.float32),
    }

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, save)


def packaged(name: str) -> Path:
    """Return the packaged file of a table; raises DataError where this installation has none."""
    path = Path(str(files("nasplug.benchmarks.trained") / f"{name}.npz"))
    if not path.is_file():
        raise DataError(f"{path} is missing; install nasplug again, or measure it with 'nasplug data build {name}'")
    return path


def digest(path: Path) -> str:
    """Return what tells one packaged file from another."""
    return hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()


def read_packed(path: Path) -> Packed:
    """Return the content of a packaged file; raises DataError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            packed = Packed(json.loads(str(file["facts"])), file["correct"], file["losses"], file["epoch_s"])
        correct, losses, epoch_s = packed.correct, packed.losses, packed.epoch_s
        if [array.dtype for array in (correct, losses, epoch_s)] != [np.uint16, np.float16, np.float32]:
            raise ValueError(f"types {correct.dtype}, {losses.dtype}, {epoch_s.dtype}")
        if correct.shape[3:] != (len(_ACCURACIES),) or (losses.shape, epoch_s.shape) != (
            correct.shape,
            correct.shape[:1],
        ):
            raise ValueError(f"shapes {correct.shape}, {losses.shape}, {epoch_s.shape}")
        if not isinstance(packed.facts["torch"], str):
            raise ValueError("facts without the version of torch")
    except Exception as error:  # a damaged archive raises nearly anything
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}); install nasplug again") from error
    return packed


def to_table(name: str, packed: Packed) -> Table:
    """Return the table of all architectures of the plan's space that at least one training did not diverge of.

    A training that diverged at some epoch has no labels at all, so that a seed is the same training at every epoch.

    Raises: DataError where the packed labels are not of the plan's architectures.
    """
    plan = PLANS[name]
    classes = len(plan.representatives)
    if len(packed.correct) != classes:
        raise DataError(f"the labels of {name} are of {len(packed.correct)} architectures, expected {classes}")
    space = plan.open_space()
    diverged = (packed.correct == _MISSING).any(axis=(2, 3))
    of_class = np.searchsorted(space.keys(plan.representatives), space.keys(space.representative(space.all())))
    held = ~diverged.all(axis=1)[of_class]
    genotypes, rows = space.all()[held], of_class[held]
    sizes = _sizes(plan)
    epochs = packed.correct.shape[2]
    columns: dict[str, NDArray[np.float64]] = {}
    for k, (split, size) in enumerate(sizes.items()):
        correct = np.where(diverged[..., None], np.nan, packed.correct[..., k] / size)
        losses = np.where(diverged[..., None], np.nan, packed.losses[..., k])
        for e in range(epochs):
            columns[f"{split}@{e + 1}"] = correct[rows, :, e]
            columns[f"{split}_loss@{e + 1}"] = losses[rows, :, e].astype(np.float64)
    for e in range(epochs):
        columns[f"train_s@{e + 1}"] = packed.epoch_s[rows].astype(np.float64) * (e + 1)
    side = load_images(plan.images).train.images.shape[-1]
    columns["params"] = complexity.params(space, genotypes, **plan.sizes).astype(np.float64)
    columns["flops"] = complexity.flops(space, genotypes, size=side, **plan.sizes).astype(np.float64)
    info = TableInfo(
        space=plan.space,
        search=Signal("valid", epochs, "one"),
        report=Signal("test", epochs),
        source=f"trained by nasplug on {plan.images} (torch {packed.facts['torch']})",
        licence="MIT; the images: UCI, Optical Recognition of Handwritten Digits (CC BY 4.0)",
        notes=(
            f"Measured on {sum(sizes.values())} images of {side}x{side} pixels; "
            "architectures of one canonical class share one training.",
        ),
        continues=True,
    )
    return Table(info, space, genotypes, columns)


def _sizes(plan: Plan) -> dict[str, int]:
    images = load_images(plan.images)
    return {"train": len(images.train), "valid": len(images.valid), "test": len(images.test)}

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
from nasplug.benchmarks.files import write_whole
from nasplug.benchmarks.table import Table, TableInfo
from nasplug.benchmarks.trained.build import PLANS, Plan, read_curves, read_seconds
from nasplug.benchmarks.trained.images import METRICS, load_images
from nasplug.errors import DataError
from nasplug.spaces.modules import complexity

__all__ = ["Packed", "digest", "pack", "packaged", "read_packed", "to_table"]

_MISSING = np.iinfo(np.uint16).max  # a training that diverged
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
        "losses": curves[..., _LOSSES].astype(np.float16),
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
            facts = json.loads(str(file["facts"]))
            return Packed(facts, file["correct"], file["losses"], file["epoch_s"])
    except Exception as error:  # a damaged archive raises nearly anything
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}); install nasplug again") from error


def to_table(name: str, packed: Packed) -> Table:
    """Return the table of all architectures of the plan's space."""
    plan = PLANS[name]
    space, genotypes = plan.open_space(), plan.open_space().all()
    standing = space.keys(plan.representatives)
    rows = np.searchsorted(standing, space.keys(space.representative(genotypes)))
    sizes = _sizes(plan)
    epochs = packed.correct.shape[2]
    columns: dict[str, NDArray[np.float64]] = {}
    for k, (split, size) in enumerate(sizes.items()):
        correct = np.where(packed.correct[..., k] == _MISSING, np.nan, packed.correct[..., k] / size)
        for e in range(epochs):
            columns[f"{split}@{e + 1}"] = correct[rows, :, e]
            columns[f"{split}_loss@{e + 1}"] = packed.losses[rows, :, e, k].astype(np.float64)
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
    )
    return Table(info, space, genotypes, columns)


def _sizes(plan: Plan) -> dict[str, int]:
    images = load_images(plan.images)
    return {"train": len(images.train), "valid": len(images.valid), "test": len(images.test)}

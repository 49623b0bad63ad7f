"""Labels of the tables that this project measured, from a build that may be half done or from the packaged file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.trained.build import PLANS, SECONDS, Chunk, Plan, read_chunk
from nasplug.benchmarks.trained.measured import packaged, read_packed
from nasplug.images import load_images

TRAIN, VALID, TEST = range(3)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of c classes, t training seeds, e epochs; NaN where there is none (yet).

    Attributes:
        plan: what was measured.
        correct: right answers on train, valid and test ``(c, t, e, 3)``.
        losses: mean cross entropies ``(c, t, e, 3)``.
        epoch_s: CPU seconds of an epoch of training alone ``(c,)``.
        stack_s: CPU seconds of the chunk that a class was trained in, evaluation included ``(c, t)``; a packaged file
            does not have them.
        torch: version, where the file says.
    """

    plan: Plan
    correct: NDArray[np.float64]
    losses: NDArray[np.float64]
    epoch_s: NDArray[np.float64]
    stack_s: NDArray[np.float64]
    torch: str | None = None

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Images of the three parts, ``(3,)``."""
        images = load_images(self.plan.images)
        return np.array([len(images.train), len(images.valid), len(images.test)], dtype=np.float64)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Accuracies on train, valid and test, ``(c, t, e, 3)``."""
        return self.correct / self.sizes

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which trainings there are, ``(c, t)``; one that diverged is none."""
        return ~np.isnan(self.correct).any(axis=(2, 3))


def load(name: str, build: Path | None) -> Labels:
    """Return the labels of a table: of the finished chunks in folder ``build``, or of the packaged file."""
    plan = PLANS[name]
    if build is not None:
        return _of_build(plan, build)
    packed = read_packed(packaged(name))
    correct = packed.correct.astype(np.float64)
    correct[packed.correct == np.iinfo(np.uint16).max] = np.nan
    unknown = np.full(correct.shape[:2], np.nan)
    return Labels(
        plan,
        correct,
        packed.losses.astype(np.float64),
        packed.epoch_s.astype(np.float64),
        unknown,
        str(packed.facts["torch"]),
    )


def _of_build(plan: Plan, build: Path) -> Labels:
    parts = sorted(path.name for path in build.glob("seed-*"))
    classes, epochs = len(plan.representatives), plan.recipe["epochs"]
    curves = np.full((classes, max(1, len(parts)), epochs, 6), np.nan)
    epoch_s, stack_s = np.full(classes, np.nan), np.full(curves.shape[:2], np.nan)
    for part in (*parts, SECONDS):
        for path in sorted((build / part).glob("*.npz")):
            chunk = Chunk(plan.name, part, int(path.stem))
            values, rows = read_chunk(plan, chunk, build), slice(*(plan.stack * (chunk.number + k) for k in (0, 1)))
            if part == SECONDS:
                epoch_s[rows] = values
            else:
                curves[rows, parts.index(part)] = values
                stack_s[rows, parts.index(part)] = np.load(path)["cpu_seconds"]
    labels = Labels(plan, curves[..., 0::2], curves[..., 1::2], epoch_s, stack_s)
    return Labels(plan, np.rint(curves[..., 0::2] * labels.sizes), labels.losses, epoch_s, stack_s)

"""A benchmark that trains: for spaces without a table, on images that are here; nothing is trained twice."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.benchmarks.trained.build import PLANS
from nasplug.benchmarks.trained.metrics import METRICS
from nasplug.benchmarks.trained.training import Recipe, Training
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.files import write_whole
from nasplug.folder import data_folder
from nasplug.images import load_images
from nasplug.spaces import Genotypes, Space
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.layout import ELASTIC_SMALL, SINGLE_PATH_SMALL

__all__ = ["TrainedBenchmark"]

_SMALL: Mapping[str, Mapping[str, Any]] = {
    **{plan.space: {k: v for k, v in plan.sizes.items() if k != "in_channels"} for plan in PLANS.values()},
    **{name: {"channels": 8, "layers": 5} for name in ("darts", "darts-s1", "darts-s2", "darts-s3", "darts-s4")},
    "elastic": ELASTIC_SMALL,
    "vgg-widths": {},
    "resnet-widths": {},
    "mobilenet-widths": {},
    "single-path-digits": {},
    "single-path-imagenet": SINGLE_PATH_SMALL,
    "single-path-imagenet-se": SINGLE_PATH_SMALL,
}
"""Sizes for images of 8x8 pixels, by space; those of the tables that this project measured, where it did."""

_RECIPES: Mapping[str, Recipe] = {"digits": Recipe(epochs=6), "cifar10": Recipe(epochs=12, batch_size=256)}
CHECKPOINT_EVERY_S = 30.0
_REMEDY = "free space, make the folder writable, or set NASPLUG_DATA to another one"

_log = logging.getLogger(__name__)


@dataclass
class _Record:
    """What is known of one architecture with one seed: curves ``(e, 6)`` and seconds ``(e,)`` since the first epoch."""

    curves: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def epochs(self) -> int:
        return len(self.curves)


class TrainedBenchmark(Benchmark):
    """Every architecture is trained when its label is asked for, on fixed splits, and remembered on disk.

    Metrics are those of :data:`nasplug.benchmarks.trained.metrics.METRICS` at each epoch of the recipe, ``train_s``
    (seconds up to that epoch, without evaluation), ``params`` and ``flops``. A label at few epochs trains so far and
    leaves a checkpoint; a longer one continues from it. So a search that stops trainings early saves their rest.

    Architectures of one canonical class share a label: the class's representative is trained. A training that
    diverges, or that torch gives up (out of memory), has the label NaN: a failed observation; the latter is tried
    again when asked again.

    Several processes may share the cache: each record is trained under a lock.

    Args:
        images: ``digits``, ``cifar10`` or ``cifar100``.
        space: a space with torch networks: ``nasbench201``, ``nasbench-macro``, ``darts``, ``elastic``, the spaces of
            widths and of Single-Path NAS.
        root: folder of the CIFAR files.
        epochs: of the schedule; None takes 6 for digits, 12 for CIFAR. Networks of two schedules share nothing, as
            the learning rate at an epoch depends on the length of the whole.
        seeds: training seeds; a search sees the first, a report the mean of all.
        networks: ``small`` for 8x8 pixels, ``full`` for the sizes of the published benchmark; None takes what fits.
        device: of torch, such as ``cpu`` or ``cuda``.
        folder: of the cache; None takes one in the data folder.

    Raises:
        UnknownNameError: another data set or space.
        InputError: a device that is not there, a recipe that cannot be; from a query, a cache that cannot be written.
        DataError: image files missing or damaged.
    """

    continues = True

    trains = True

    def __init__(
        self,
        images: str = "digits",
        space: str = "nasbench201",
        *,
        root: str | None = None,
        epochs: int | None = None,
        seeds: int = 1,
        networks: Literal["small", "full"] | None = None,
        device: str = "cpu",
        folder: Path | None = None,
    ):
        if seeds < 1:
            raise InputError(f"a trained benchmark has at least 1 training seed, got {seeds}")
        if space not in _SMALL:
            raise UnknownNameError("space with torch networks", space, _SMALL)
        if networks not in (None, "small", "full"):
            raise UnknownNameError("size of networks", str(networks), ("small", "full"))
        self.device = _device(device)
        self.space: Space = registry.load("space", space)()
        self.images = load_images(images, Path(root) if root else None)
        recipe = asdict(_RECIPES.get(images, _RECIPES["cifar10"]))
        self.recipe = Recipe(**recipe | ({} if epochs is None else {"epochs": epochs}))
        small = (networks or ("small" if self.images.train.images.shape[-1] <= 8 else "full")) == "small"
        self.sizes: dict[str, Any] = {"in_channels": self.images.channels, "classes": self.images.classes}
        self.sizes |= _SMALL[space] if small else {}
        self.name = f"trained-{images}-{space}"
        self.search = Signal("valid", self.recipe.epochs, "one" if seeds > 1 else "mean")
        self.report = Signal("test", self.recipe.epochs)
        self._seeds = seeds
        self._folder = (folder or data_folder() / "trained") / f"{self.name}-{self._digest()}"
        self._known: dict[tuple[int, int], _Record] = {}

    def _facts(self) -> dict[str, Any]:
        return {
            "space": self.space.name,
            "sizes": self.sizes,
            "images": self.images.checksum(),
            "recipe": asdict(self.recipe),
        }

    def _digest(self) -> str:
        return hashlib.blake2b(json.dumps(self._facts(), sort_keys=True).encode(), digest_size=6).hexdigest()

    # -- contract ----------------------------------------------------------------------------------------------------

    def query(
        self, genotypes: Genotypes, metric: str, *, epochs: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        genotypes = self.space.check(genotypes)
        if metric in ("params", "flops"):
            return self._complexity(genotypes, metric)
        if metric not in (*METRICS, "train_s"):
            raise UnknownNameError(f"metric of {self.name}", metric, (*METRICS, "train_s", "params", "flops"))
        epochs = self.recipe.epochs if epochs is None else epochs
        if not 1 <= epochs <= self.recipe.epochs:
            raise DataError(f"{self.name} trains for 1 to {self.recipe.epochs} epochs, got {epochs}")
        if seed is not None and not 0 <= seed < self._seeds:
            raise DataError(f"{self.name} has training seeds 0..{self._seeds - 1}, got {seed}")
        seeds = range(self._seeds) if seed is None else [seed]
        values = [[self._label(row, metric, epochs, s) for s in seeds] for row in self.space.representative(genotypes)]
        return _mean_of_known(np.array(values, dtype=np.float64).reshape(len(genotypes), len(seeds)))

    def n_seeds(self, metric: str, epochs: int | None = None) -> int:
        return 1 if metric in ("params", "flops") else self._seeds

    def fidelities(self, metric: str) -> tuple[int, ...]:
        return tuple(range(1, self.recipe.epochs + 1)) if metric in (*METRICS, "train_s") else ()

    def costs(self) -> tuple[str, ...]:
        return ("params", "flops")

    def cost_s(self, genotypes: Genotypes, signal: Signal) -> NDArray[np.float64]:
        """Return the seconds of one training of the signal's length, ``(n,)``, NaN where the signal needs none.

        Trains what was not; of several trainings, the first that there is counts.
        """
        if signal.metric not in (*METRICS, "train_s"):
            return np.full(len(genotypes), np.nan)
        epochs = self.recipe.epochs if signal.epochs is None else signal.epochs
        rows = self.space.representative(self.space.check(genotypes))
        seeds = [self._trained_seed(key, epochs) for key in self.space.keys(rows).tolist()]
        seconds = [self.query(row[None], "train_s", epochs=epochs, seed=s) for row, s in zip(rows, seeds, strict=True)]
        return np.concatenate([np.empty(0), *seconds])

    def _trained_seed(self, key: int, epochs: int) -> int:
        """Return the first seed that a representative was trained with so far; 0 where there is none yet."""
        known = (s for s in range(self._seeds) if (key, s) in self._known and self._known[key, s].epochs >= epochs)
        return next(known, 0)

    def provenance(self) -> dict[str, Any]:
        return {
            "benchmark": self.name,
            "space": self.space.name,
            "images": self.images.name,
            "checksum": f"blake2b:{self._facts()['images']}",
            "source": f"trained here with torch {version('torch')} on {self.device}",
            "recipe": asdict(self.recipe),
            "sizes": {key: list(value) if isinstance(value, tuple) else value for key, value in self.sizes.items()},
        }

    # -- training ----------------------------------------------------------------------------------------------------

    def _complexity(self, genotypes: Genotypes, metric: str) -> NDArray[np.float64]:
        if metric == "params":
            return complexity.params(self.space, genotypes, **self.sizes).astype(np.float64)
        side = self.images.train.images.shape[-1]
        return complexity.flops(self.space, genotypes, size=side, **self.sizes).astype(np.float64)

    def _label(self, row: NDArray[np.int64], metric: str, epochs: int, seed: int) -> float:
        record = self._record(row, epochs, seed)
        if record.epochs < epochs:
            return float("nan")
        column = record.seconds if metric == "train_s" else record.curves[:, METRICS.index(metric)]
        return float(column[epochs - 1])

    def _record(self, row: NDArray[np.int64], epochs: int, seed: int) -> _Record:
        """Return what is known of a representative, trained up to ``epochs`` if torch can."""
        key = int(self.space.keys(row[None])[0]), seed
        if key in self._known and self._known[key].epochs >= epochs:
            return self._known[key]
        path = self._folder / f"seed-{seed}" / f"{key[0]}.npz"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock")).acquire()
        except OSError as error:
            raise InputError(f"cannot write {path.parent} ({error.strerror}); {_REMEDY}") from error
        with lock:
            record = _read(path)
            if record.epochs < epochs:
                try:
                    record = self._train(row, epochs, seed, path, record)
                except DataError as error:  # which a search would take for an architecture that has no label
                    raise InputError(str(error)) from error
        self._known[key] = record
        return record

    def _train(self, row: NDArray[np.int64], epochs: int, seed: int, path: Path, record: _Record) -> _Record:
        checkpoint = path.with_suffix(".pt")
        try:
            training = self._resumed(row, seed, checkpoint, record.epochs)
            record = _Record(record.curves[: training.epoch], record.seconds[: training.epoch])
            saved = time.monotonic()
            while training.epoch < epochs:
                metrics = next(training)[0]
                seconds = training.fit_seconds + (record.seconds[-1] if record.epochs else 0.0)
                record = _Record(np.vstack([record.curves, metrics]), np.append(record.seconds, seconds))
                if training.epoch == epochs or time.monotonic() - saved > CHECKPOINT_EVERY_S:
                    _save(training, checkpoint, record, path, last=training.epoch == self.recipe.epochs)
                    saved = time.monotonic()
        except (RuntimeError, MemoryError) as error:  # torch's: out of memory, an operation that the device lacks
            architecture = self.space.to_string(row[None])[0]
            _log.warning("training of %s failed after %d epochs: %s", architecture, record.epochs, error)
        return record

    def _resumed(self, row: NDArray[np.int64], seed: int, checkpoint: Path, recorded: int) -> Training:
        """Return a training at its checkpoint, or at its start where there is none that the record reaches."""
        training = self._started(row, seed)
        try:
            training.restore(torch.load(checkpoint, weights_only=True, map_location=training.device))
        except FileNotFoundError:
            return training
        except Exception:  # damaged files raise nearly anything
            return self._started(row, seed)
        return training if training.epoch <= recorded else self._started(row, seed)

    def _started(self, row: NDArray[np.int64], seed: int) -> Training:
        net = network(self.space, row, seed=seed, **self.sizes)
        return Training([net], self.images, self.recipe, seed, self.device)


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row ``(n, k)`` over what is no NaN; NaN where nothing else is."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _save(training: Training, checkpoint: Path, record: _Record, path: Path, *, last: bool) -> None:
    """Write the record before the checkpoint: killed between the two, the record is cut to the older checkpoint."""

    def arrays(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, curves=record.curves, seconds=record.seconds)

    write_whole(path, arrays, remedy=_REMEDY)
    if last:
        checkpoint.unlink(missing_ok=True)
    else:
        write_whole(checkpoint, lambda temporary: torch.save(training.state(), temporary), remedy=_REMEDY)


def _read(path: Path) -> _Record:
    """Return the record of a file; an empty one where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            curves, seconds = file["curves"], file["seconds"]
        if curves.ndim == 2 and curves.shape == (len(seconds), len(METRICS)):
            return _Record(curves, seconds)
    except Exception:  # a damaged archive raises nearly anything
        pass
    return _Record(np.empty((0, len(METRICS))), np.empty(0))


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"torch has no device {name!r} here ({str(error).splitlines()[0]}); use cpu") from error
    return name

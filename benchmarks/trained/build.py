"""Measuring a whole table: every distinct architecture of a space trained on the same images, in stacks, resumable.

A build is a folder of chunk files, each the training curves of a stack of networks with one training seed, or the
seconds that each of them needs when it trains alone. A chunk is written whole once it is done, so a build can be
killed at any point and goes on with the next chunk.

Shapes: k architectures of a chunk; e epochs; the six metrics of :data:`nasplug.benchmarks.trained.metrics.METRICS`.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks.trained.metrics import METRICS
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.files import write_whole
from nasplug.images import Images, load_images
from nasplug.packages import require
from nasplug.spaces import Genotypes, Space
from nasplug.spaces.modules.layout import MACRO_SMALL

__all__ = [
    "PLANS",
    "SECONDS",
    "Chunk",
    "Plan",
    "build",
    "keep_freed_memory",
    "read_chunk",
    "read_curves",
    "read_seconds",
    "time_rows",
    "train_rows",
]

SECONDS = "seconds"
"""The part of a build that times instead of training."""


@dataclass(frozen=True)
class Plan:
    """What a table is measured on: nothing else may change its labels.

    Attributes:
        name: of the table.
        space: registered name.
        sizes: of the networks (:func:`nasplug.spaces.modules.build.network`).
        images: data set.
        recipe: options of :class:`nasplug.benchmarks.trained.training.Recipe`.
        stack: networks trained together.
    """

    name: str
    space: str
    sizes: Mapping[str, Any]
    images: str = "digits"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    stack: int = 32

    @cached_property
    def representatives(self) -> Genotypes:
        """The genotypes that stand for a canonical class, ``(classes, s)``, sorted."""
        space = self.open_space()
        genotypes = space.all()
        return genotypes[(space.representative(genotypes) == genotypes).all(axis=1)]

    def open_space(self) -> Space:
        """Return its space."""
        space: Space = registry.load("space", self.space)()
        return space

    def chunks(self, seeds: int) -> list[Chunk]:
        """Return all chunks, those of the first seed first, so that an early stop leaves a usable table."""
        numbers = range(-(-len(self.representatives) // self.stack))
        parts = [f"seed-{seed}" for seed in range(seeds)] + [SECONDS]
        return [Chunk(self.name, part, number) for part in parts for number in numbers]

    def rows(self, chunk: Chunk) -> Genotypes:
        """Return the architectures of a chunk, ``(k, s)``; neighbours are alike, which makes large groups."""
        return self.representatives[chunk.number * self.stack : (chunk.number + 1) * self.stack]

    def facts(self) -> dict[str, Any]:
        """Return what the labels depend on, JSON-ready; chunks of other facts are refused."""
        return dataclasses.asdict(self) | {"images_checksum": load_images(self.images).checksum()}


@dataclass(frozen=True)
class Chunk:
    """One stack of a plan: trained with one seed, or timed one by one.

    Attributes:
        plan: name.
        part: ``seed-0``, ``seed-1``, ... or ``seconds``.
        number: of the stack.
    """

    plan: str
    part: str
    number: int

    def path(self, folder: Path) -> Path:
        """Return its file."""
        return folder / self.part / f"{self.number:04d}.npz"


PLANS: Mapping[str, Plan] = {
    "digits201": Plan("digits201", "nasbench201", {"channels": 8, "cells": 1, "in_channels": 1}, recipe={"epochs": 6}),
    "digits-macro": Plan(
        "digits-macro",
        "nasbench-macro",
        {**MACRO_SMALL, "in_channels": 1},
        recipe={"epochs": 6},
    ),
}
"""Tables that this project measures itself."""


def build(name: str, folder: Path, *, seeds: int = 3, jobs: int = 2) -> Iterator[tuple[int, int]]:
    """Train what a plan still lacks, yielding (chunks done, chunks in all) after each.

    Args:
        name: a key of :data:`PLANS`.
        folder: where the build lives; made where it is missing.
        seeds: training seeds, 0 to ``seeds - 1``.
        jobs: processes, one core each.

    Raises:
        UnknownNameError: another plan.
        InputError: no seed or no job.
        DataError: another process builds here, the folder holds another build, or it cannot be written.
        MissingDependencyError: without torch.
    """
    from joblib import Parallel, delayed

    require("torch", "filelock", purpose="training networks", extra="torch")  # for the workers: one error here
    from filelock import FileLock, Timeout

    if name not in PLANS:
        raise UnknownNameError("table to build", name, PLANS)
    if seeds < 1 or jobs < 1:
        raise InputError(f"a build has at least 1 seed and 1 job, got {seeds} and {jobs}")
    plan = PLANS[name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "build.lock", timeout=0).acquire()
    except Timeout:
        raise DataError(f"another process builds in {folder}; wait for it, or choose another folder") from None
    except OSError as error:
        raise DataError(f"cannot build in {folder} ({error.strerror}); choose a folder you can write to") from error
    with lock:
        _claim(plan, folder)
        chunks = plan.chunks(seeds)
        missing = [chunk for chunk in chunks if not _complete(plan, chunk, folder)]
        done = len(chunks) - len(missing)
        yield done, len(chunks)
        workers = Parallel(n_jobs=min(jobs, max(1, len(missing))), return_as="generator_unordered", batch_size=1)
        for _ in workers(delayed(_do_chunk)(chunk, folder) for chunk in missing):
            done += 1
            yield done, len(chunks)


def _claim(plan: Plan, folder: Path) -> None:
    """Write down what is built here, or refuse a folder where something else is."""
    path, facts = folder / "plan.json", json.dumps(plan.facts(), indent=2).encode()
    if path.exists():
        if path.read_bytes() != facts:
            raise DataError(f"{folder} holds a build with other settings (see {path}); choose another folder")
        return
    write_whole(path, lambda temporary: temporary.write_bytes(facts))


def _complete(plan: Plan, chunk: Chunk, folder: Path) -> bool:
    path = chunk.path(folder)
    if not path.exists():
        return False
    try:
        read_chunk(plan, chunk, folder)
    except DataError:
        path.unlink()  # damaged: train it again
        return False
    return True


def read_chunk(plan: Plan, chunk: Chunk, folder: Path) -> NDArray[np.float64]:
    """Return a finished chunk: curves ``(k, e, 6)``, or seconds an epoch ``(k,)``.

    Raises: DataError where the file is missing, damaged, or of other architectures.
    """
    path = chunk.path(folder)
    try:
        with np.load(path, allow_pickle=False) as file:
            rows, values = file["genotypes"], file["values"]
    except Exception as error:  # a damaged archive raises nearly anything
        raise DataError(f"{path} is missing or damaged ({type(error).__name__}: {error}); build again") from error
    expected = plan.rows(chunk)
    shape = (len(expected),) + (() if chunk.part == SECONDS else (plan.recipe["epochs"], len(METRICS)))
    if values.shape != shape or values.dtype != np.float64 or not np.array_equal(rows, expected):
        raise DataError(
            f"{path} holds {values.dtype} {values.shape}, or is of other architectures; expected float64 {shape}; "
            "remove it, build again"
        )
    table: NDArray[np.float64] = values
    return table


def _read_part(plan: Plan, folder: Path, part: str) -> NDArray[np.float64]:
    numbers = range(-(-len(plan.representatives) // plan.stack))
    return np.concatenate([read_chunk(plan, Chunk(plan.name, part, number), folder) for number in numbers])


def read_curves(plan: Plan, folder: Path, seeds: int) -> NDArray[np.float64]:
    """Return the curves of a finished build, ``(classes, seeds, e, 6)``; raises DataError while one is missing."""
    return np.stack([_read_part(plan, folder, f"seed-{seed}") for seed in range(seeds)], axis=1)


def read_seconds(plan: Plan, folder: Path) -> NDArray[np.float64]:
    """Return the CPU seconds of an epoch of each class, ``(classes,)``; raises DataError while one is missing."""
    return _read_part(plan, folder, SECONDS)


def _do_chunk(chunk: Chunk, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    keep_freed_memory()
    plan = PLANS[chunk.plan]
    rows, started = plan.rows(chunk), time.process_time()
    if chunk.part == SECONDS:
        values = time_rows(plan, rows)
    else:
        values = train_rows(plan, rows, int(chunk.part.removeprefix("seed-")))
    cpu_seconds = np.float64(time.process_time() - started)

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, genotypes=rows, values=values, cpu_seconds=cpu_seconds)

    write_whole(chunk.path(folder), save)


def time_rows(plan: Plan, rows: Genotypes, steps: int = 5) -> NDArray[np.float64]:
    """Return the CPU seconds of one epoch of training of each architecture alone, without evaluation, ``(k,)``.

    An epoch is its number of steps times the median of ``steps`` timed ones, after one that warms up.
    """
    from nasplug.benchmarks.trained.training import Recipe, Training
    from nasplug.spaces.modules.build import network

    images = _images(plan)
    recipe = Recipe(**plan.recipe)
    seconds = []
    for row in rows:
        net = network(plan.open_space(), row, classes=images.classes, seed=0, **plan.sizes)
        clock = [time.process_time()]
        for _ in Training([net], images, recipe, 0).steps(limit=steps + 1):
            clock.append(time.process_time())
        seconds.append(np.median(np.diff(clock)[1:]) * -(-len(images.train) // recipe.batch_size))
    return np.array(seconds)


def train_rows(plan: Plan, rows: Genotypes, seed: int) -> NDArray[np.float64]:
    """Train architectures ``(k, s)`` in one stack and return their curves, ``(k, e, 6)``."""
    from nasplug.benchmarks.trained.training import Recipe, Training
    from nasplug.spaces.modules.build import network

    images = _images(plan)
    networks = [network(plan.open_space(), row, classes=images.classes, seed=seed, **plan.sizes) for row in rows]
    return np.stack(list(Training(networks, images, Recipe(**plan.recipe), seed)), axis=1)


_opened: dict[str, Images] = {}


def _images(plan: Plan) -> Images:
    """Return the plan's images, loaded once a process."""
    if plan.images not in _opened:
        _opened[plan.images] = load_images(plan.images)
    return _opened[plan.images]


def keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed: a training asks for the same ones again at every step.

    By default they go back to the system and come back as zeroed pages, which costs more than the arithmetic.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library
    mmap_threshold, trim_threshold = -3, -1
    mallopt(mmap_threshold, 32 * 2**20)
    mallopt(trim_threshold, 2**30)

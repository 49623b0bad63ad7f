"""Measuring a whole table: every distinct architecture of a space trained on the same images, in stacks, resumable.

A build is a folder of chunk files, each the training curves of a stack of networks with one training seed. A chunk is
written whole once its stack is trained, so a build can be killed at any point and goes on with the next chunk.

Shapes: k architectures of a chunk; e epochs; the six metrics of :data:`nasplug.benchmarks.trained.training.METRICS`.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks.files import write_whole
from nasplug.benchmarks.trained.images import Images, load_images
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.spaces import Genotypes, Space

__all__ = ["PLANS", "Chunk", "Plan", "build", "read_chunks", "train_rows"]


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
        starts = range(0, len(self.representatives), self.stack)
        return [Chunk(self.name, seed, start // self.stack) for seed in range(seeds) for start in starts]

    def rows(self, chunk: Chunk) -> Genotypes:
        """Return the architectures of a chunk, ``(k, s)``; neighbours are alike, which makes large groups."""
        return self.representatives[chunk.number * self.stack : (chunk.number + 1) * self.stack]

    def facts(self) -> dict[str, Any]:
        """Return what the labels depend on, JSON-ready; chunks of other facts are refused."""
        return dataclasses.asdict(self) | {"images_checksum": load_images(self.images).checksum()}


@dataclass(frozen=True)
class Chunk:
    """One stack of a plan, trained with one seed."""

    plan: str
    seed: int
    number: int

    def path(self, folder: Path) -> Path:
        """Return its file."""
        return folder / f"seed-{self.seed}" / f"{self.number:04d}.npz"


PLANS: Mapping[str, Plan] = {
    "digits201": Plan("digits201", "nasbench201", {"channels": 8, "cells": 1, "in_channels": 1}, recipe={"epochs": 6}),
    "digits-macro": Plan(
        "digits-macro",
        "nasbench-macro",
        {"stem": 4, "width": 64, "strides": (1, 2, 2), "in_channels": 1},
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
        DataError: another process builds here, the folder holds another build, or it cannot be written.
    """
    from filelock import FileLock, Timeout
    from joblib import Parallel, delayed

    if name not in PLANS:
        raise UnknownNameError("table to build", name, PLANS)
    if seeds < 1 or jobs < 1:
        raise InputError(f"a build has at least 1 seed and 1 job, got {seeds} and {jobs}")
    plan = PLANS[name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "build.lock", timeout=0)
        lock.acquire()
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
        for _ in workers(delayed(_train_chunk)(chunk, folder) for chunk in missing):
            done += 1
            yield done, len(chunks)


def _claim(plan: Plan, folder: Path) -> None:
    """Write down what is built here, or refuse a folder where something else is."""
    path, facts = folder / "plan.json", json.dumps(plan.facts(), indent=2)
    if path.exists():
        if path.read_text() != facts:
            raise DataError(f"{folder} holds a build with other settings (see {path}); choose another folder")
        return
    write_whole(path, lambda temporary: temporary.write_text(facts))


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
    """Return the curves of a finished chunk, ``(k, e, 6)``; raises DataError where the file is missing or damaged."""
    path = chunk.path(folder)
    try:
        with np.load(path, allow_pickle=False) as file:
            rows, curves = file["genotypes"], file["curves"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is missing or damaged ({error}); build again") from error
    expected = (len(plan.rows(chunk)), plan.recipe["epochs"], 6)
    if curves.shape != expected or not np.array_equal(rows, plan.rows(chunk)):
        raise DataError(f"{path} holds other architectures or epochs than {expected}; remove it and build again")
    table: NDArray[np.float64] = curves
    return table


def read_chunks(name: str, folder: Path, seeds: int) -> NDArray[np.float64]:
    """Return the curves of a finished build, ``(classes, seeds, e, 6)``; raises DataError while one is missing."""
    plan = PLANS[name]
    by_seed = []
    for seed in range(seeds):
        chunks = [chunk for chunk in plan.chunks(seeds) if chunk.seed == seed]
        by_seed.append(np.concatenate([read_chunk(plan, chunk, folder) for chunk in chunks]))
    return np.stack(by_seed, axis=1)


def _train_chunk(chunk: Chunk, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    _keep_freed_memory()
    plan = PLANS[chunk.plan]
    rows, started = plan.rows(chunk), time.process_time()
    curves = train_rows(plan, rows, chunk.seed)
    seconds = np.float64(time.process_time() - started)

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, genotypes=rows, curves=curves, cpu_seconds=seconds, torch=np.array(torch.__version__))

    write_whole(chunk.path(folder), save)


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


def _keep_freed_memory() -> None:
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

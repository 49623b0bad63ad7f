"""The benchmark ``ofa-imagenet-surrogate``: labels of once-for-all's sub-networks by published models, not by a table.

``valid`` is what once-for-all's accuracy predictor answers, an MLP of 128-400-400-400-1 on the space's ``ofa`` bits:
the top-1 accuracy, as a fraction, on 10,000 images held out of ImageNet's *training* set, of a sub-network that shares
the large network's weights. ``latency_note10_ms`` is the sum of measured layer times of a Samsung Note10.

Both know resolutions from 160 on: below, the predictor's bits were never trained (it answers 0.80 at 128 and 0.78 at
160) and there are no tables. So the space is the part of ``ofa-mobilenetv3`` with those; genotypes, strings and cost
models are the same, and a query of a lower resolution raises. The files come by ``nasplug data add``, see
:mod:`nasplug.benchmarks.importers.ofa`.

Source: Cai et al., Once-for-All, ICLR 2020; mit-han-lab/once-for-all, Apache-2.0.

Shapes: n architectures; r resolutions of the tables; a block has 9 forms, kernel times expansion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.arrays import read_arrays
from nasplug.benchmarks.base import Benchmark, Signal, is_cost
from nasplug.errors import DataError, UnknownNameError
from nasplug.files import write_whole
from nasplug.folder import data_folder
from nasplug.spaces import Genotypes, OFAMobileNetV3
from nasplug.spaces.ofa_mobilenetv3 import BLOCKS, EXPANSIONS, KERNELS, RESOLUTIONS
from nasplug.spaces.subspace import Subspace

__all__ = ["LAYERS", "NAME", "PARTS", "OFASurrogate", "check_part", "open_surrogate", "part_path", "write_part"]

NAME = "ofa-imagenet-surrogate"
LAYERS = (128, 400, 400, 400, 1)
LEAST_RESOLUTION = 160
FORMS = len(KERNELS) * len(EXPANSIONS)
PARTS = {"valid": "accuracy_predictor", "latency_note10_ms": "note10_tables"}
"""Metric -> the part that answers it."""

MAX_BYTES = 64 * 2**20
CHUNK = 4096
_REMEDY = {
    "accuracy_predictor": "nasplug data add accuracy_predictor.pth",
    "note10_tables": "nasplug data add note10_lookup_tables",
}
_FROM = "the file is once-for-all's (mit-han-lab/once-for-all)"

Part = Mapping[str, NDArray[Any]]


class OFASurrogate(Benchmark):
    """Labels of ``ofa-mobilenetv3`` by formula; some 10^5 queries a second.

    Args:
        parts: part -> arrays, see :func:`check_part`; the accuracy predictor is needed, the tables are not.

    Raises: DataError for a part that is missing or damaged.
    """

    name = NAME
    search = report = Signal("valid")

    def __init__(self, parts: Mapping[str, Part]):
        self._whole = OFAMobileNetV3()
        known = self._whole.sample(64, np.random.default_rng(0))
        self.space = Subspace(self._whole, _known_resolution, f"resolution >= {LEAST_RESOLUTION}", known)
        if "accuracy_predictor" not in parts:
            raise DataError(f"{NAME} needs its accuracy predictor; {_REMEDY['accuracy_predictor']} ({_FROM})")
        for part, arrays in parts.items():
            check_part(part, arrays)
        self._parts = parts
        self.notes = (
            "valid is a prediction: the accuracy on images held out of ImageNet's training set, with shared weights.",
            "One split only: search and report see the same prediction, so reported values are optimistic.",
        )

    def query(
        self, genotypes: Genotypes, metric: str, *, epochs: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        arrays = self._part(metric, epochs)
        if seed not in (None, 0):
            raise DataError(f"{NAME} has one value of {metric} an architecture; training seed {seed} does not exist")
        low = ~_known_resolution(genotypes)
        if low.any():
            row = int(np.argmax(low))
            raise DataError(
                f"{NAME} holds resolutions from {LEAST_RESOLUTION} on, row {row} is "
                f"{self.space.to_string(genotypes[row : row + 1])[0]}"
            )
        answer = self._accuracy if metric == "valid" else self._latency
        parts = [answer(genotypes[i : i + CHUNK], arrays) for i in range(0, len(genotypes), CHUNK)]
        return np.concatenate([np.empty(0), *parts])

    def n_seeds(self, metric: str, epochs: int | None = None) -> int:
        self._part(metric, epochs)
        return 1

    def costs(self) -> tuple[str, ...]:
        return tuple(metric for metric, part in PARTS.items() if is_cost(metric) and part in self._parts)

    def provenance(self) -> dict[str, Any]:
        return {
            "benchmark": self.name,
            "space": self._whole.name,
            "part": f"resolution >= {LEAST_RESOLUTION}",
            "metrics": [metric for metric, part in PARTS.items() if part in self._parts],
            "checksum": f"blake2b:{self._checksum()}",
            "source": "once-for-all's published accuracy predictor and Note10 tables (Cai et al., ICLR 2020)",
            "licence": "Apache-2.0",
        }

    def _part(self, metric: str, epochs: int | None) -> Part:
        if metric not in PARTS:
            raise UnknownNameError("metric", metric, PARTS)
        if epochs is not None:
            raise DataError(f"{NAME} predicts trained networks; {metric}@{epochs} does not exist, ask for {metric}")
        if PARTS[metric] not in self._parts:
            raise DataError(f"{NAME} has no {metric} yet; {_REMEDY[PARTS[metric]]} ({_FROM})")
        return self._parts[PARTS[metric]]

    def _accuracy(self, genotypes: Genotypes, arrays: Part) -> NDArray[np.float64]:
        hidden = self._whole.encode(genotypes, "ofa")
        for layer in range(len(LAYERS) - 2):
            hidden = np.maximum(hidden @ arrays[f"weight_{layer}"] + arrays[f"bias_{layer}"], 0.0)
        last = len(LAYERS) - 2
        answer: NDArray[np.float64] = (hidden @ arrays[f"weight_{last}"] + arrays[f"bias_{last}"])[:, 0].astype(
            np.float64
        )
        return answer

    def _latency(self, genotypes: Genotypes, arrays: Part) -> NDArray[np.float64]:
        s = self._whole.settings(genotypes)
        at = np.searchsorted(arrays["resolutions"], s.resolution)
        kernel, expand = (np.searchsorted(c, v) for c, v in ((KERNELS, s.kernel), (EXPANSIONS, s.expand)))
        times = arrays["blocks_ms"][at[:, None], np.arange(BLOCKS), kernel * len(EXPANSIONS) + expand]
        total: NDArray[np.float64] = np.where(s.kernel > 0, times, 0.0).sum(axis=1) + arrays["rest_ms"][at]
        return total

    def _checksum(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for part in sorted(self._parts):
            for name, values in sorted(self._parts[part].items()):
                digest.update(f"\0{part}\0{name}\0{values.dtype}\0{values.shape}\0".encode())
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()


def _known_resolution(genotypes: Genotypes) -> NDArray[np.bool_]:
    """Return which networks have labels, ``(n,)``."""
    known: NDArray[np.bool_] = np.array(RESOLUTIONS)[genotypes[:, -1]] >= LEAST_RESOLUTION
    return known


def open_surrogate() -> Benchmark:
    """Open ``ofa-imagenet-surrogate`` from the data folder; raises DataError naming the file it lacks."""
    parts = {}
    for part in PARTS.values():
        path = part_path(part)
        if not path.exists():
            continue
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DataError(f"{path} has {path.stat().st_size} bytes, expected a few million")
            parts[part] = read_arrays(path, MAX_BYTES)
            check_part(part, parts[part])
        except (DataError, OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); {_REMEDY[part]} again") from error
    return OFASurrogate(parts)


def part_path(part: str) -> Path:
    """Return the file of a part in the data folder."""
    return data_folder() / NAME / f"{part}.npz"


def write_part(part: str, arrays: Part) -> Path:
    """Write a part into the data folder and return its file; raises DataError for arrays that are not the part."""
    check_part(part, arrays)
    path = part_path(part)
    write_whole(path, partial(_save, arrays))
    return path


def _save(arrays: Part, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def check_part(part: str, arrays: Part) -> None:
    """Raise DataError unless the arrays are finite and of the shapes of a part.

    ``accuracy_predictor``: ``weight_0`` to ``weight_3`` ``(in, out)`` and ``bias_0`` to ``bias_3`` ``(out,)``, float32.
    ``note10_tables``: ``resolutions`` ``(r,)``, ascending and all of the space from 160 on; ``blocks_ms``
    ``(r, 20, 9)`` and ``rest_ms`` ``(r,)``, above zero.
    """
    if part == "accuracy_predictor":
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(LAYERS)):
            shapes |= {f"weight_{layer}": (fan_in, fan_out), f"bias_{layer}": (fan_out,)}
    else:
        expected = np.arange(LEAST_RESOLUTION, 225, 4)
        shapes = {"resolutions": expected.shape, "blocks_ms": (len(expected), BLOCKS, FORMS), "rest_ms": expected.shape}
    found = {name: values.shape for name, values in arrays.items()}
    if found != shapes:
        raise DataError(f"the {part} should have the arrays {shapes}, it has {found}")
    if not all(np.issubdtype(v.dtype, np.number) and np.isfinite(v).all() for v in arrays.values()):
        raise DataError(f"the {part} holds numbers that are not finite")
    if part == "note10_tables":
        if (arrays["resolutions"] != expected).any():
            raise DataError(f"the {part} should hold resolutions {expected[0]} to {expected[-1]} in steps of 4")
        if min(arrays["blocks_ms"].min(), arrays["rest_ms"].min()) <= 0:
            raise DataError(f"the {part} holds a time that is not above zero")

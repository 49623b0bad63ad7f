"""Latency files in the layout of HELP (Lee et al., NeurIPS 2021): one ``.npz``, an array of milliseconds a device.

Which space it is follows from the arrays beside the devices:

    none: NAS-Bench-201, 15,625 values in the order of the official index;
    ``arch`` ``(n, 22)``: FBNet, operation codes;
    ``kernel`` and ``expand`` ``(n, 20)``, ``depth`` ``(n, 5)``, ``resolution`` ``(n,)``: OFA-MobileNetV3.

Each device becomes the metric ``latency_DEVICE_ms``; an array named ``latency_ms`` stays that.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasplug.arrays import read_arrays
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.importers.common import Imported, ImportOptions
from nasplug.benchmarks.latency_bank import latency_metric
from nasplug.benchmarks.table import Table, TableInfo
from nasplug.cost_models.base import LatencyBank
from nasplug.cost_models.units import require_milliseconds
from nasplug.errors import DataError, InputError
from nasplug.spaces import FBNet, Genotypes, NASBench201, OFAMobileNetV3, Space

__all__ = ["import_help", "official_order", "read_help"]

MAX_BYTES = 256 * 2**20
"""Most that a file may unpack to; the largest known one has 2 MB."""

_DEVICE = re.compile(r"[A-Za-z0-9][\w.-]{0,60}", re.ASCII)
_OFA = ("kernel", "expand", "depth", "resolution")


def import_help(path: Path, options: ImportOptions) -> list[Imported]:
    """Return the table of a latency file, one metric a device; rows lose the file's order.

    Raises: DataError for a file that is not of this layout, is hostile, or holds what cannot be milliseconds.
    """
    bank = read_help(path)
    columns = {latency_metric(device): bank.on(device) for device in bank.devices}
    first = Signal(next(iter(columns)))
    info = TableInfo(
        space=bank.space.name,
        search=Signal.parse(options.search) if options.search else first,
        report=Signal.parse(options.report) if options.report else first,
        source=options.source or f"latency file {path.name}",
        licence=options.licence or "not stated when it was added",
    )
    table = Table(info, bank.space, bank.genotypes, columns)
    share = f"{len(bank)} of the {bank.space.size:.6g} architectures of {bank.space.name}"
    messages = () if len(bank) == bank.space.size else (share,)
    return [Imported("", f"{path.stem}-latency", table, messages)]


def read_help(path: Path) -> LatencyBank:
    """Return the devices of a latency file, rows in the file's order, which published splits refer to.

    Raises: DataError, as :func:`import_help`.
    """
    arrays = _arrays(path)
    space, genotypes = _architectures(arrays, path)
    devices = [name for name in arrays if name not in {"arch", *_OFA}]
    if not devices:
        raise DataError(f"{path} holds no array of latencies")
    for device in devices:
        ms = arrays[device]
        if not _DEVICE.fullmatch(device):
            raise DataError(f"{path}: a device's name has letters, digits, '.', '_' and '-', got {device[:80]!r}")
        if ms.shape != (len(genotypes),):
            raise DataError(f"{path}: device {device!r} has shape {ms.shape}, expected one value an architecture, "
                            f"({len(genotypes)},)")  # fmt: skip
        if np.isnan(ms).any():
            raise DataError(f"{path}: device {device!r} has no latency in row {int(np.argmax(np.isnan(ms)))}")
        require_milliseconds(ms, f"{path}, device {device!r}")
    return LatencyBank(space, genotypes, tuple(devices), np.stack([arrays[name] for name in devices], axis=1))


def official_order() -> Genotypes:
    """Return all NAS-Bench-201 genotypes in the order of the official index, ``(15625, 6)``.

    The benchmark's authors listed the cells operation by operation and shuffled them with Python's seed 88.
    """
    cells = NASBench201().all().tolist()
    random.Random(88).shuffle(cells)
    return np.array(cells, dtype=np.int64)


def _arrays(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the file's arrays as float64, sizes checked before anything is unpacked."""
    try:
        arrays = read_arrays(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable .npz file of plain arrays: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise DataError(f"{path}: array {name!r} holds {array.dtype}, expected numbers")
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _architectures(arrays: dict[str, NDArray[np.float64]], path: Path) -> tuple[Space, Genotypes]:
    given = [name for name in ("arch", *_OFA) if name in arrays]
    try:
        if given == ["arch"]:
            space: Space = FBNet()
            return space, space.check(_whole(arrays["arch"]))
        if given == list(_OFA):
            ofa = OFAMobileNetV3()
            return ofa, ofa.from_settings(*(_whole(arrays[name]) for name in _OFA))
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    if given:
        raise DataError(f"{path}: arrays {', '.join(given)} describe no known space; expected arch, or {_OFA}")
    space = NASBench201()
    lengths = {array.shape for array in arrays.values()}
    if arrays and lengths != {(space.size,)}:
        wrong = next(name for name, array in arrays.items() if array.shape != (space.size,))
        raise DataError(
            f"{path}: array {wrong!r} has shape {arrays[wrong].shape}; without arrays that describe architectures, "
            f"each device needs the {space.size} cells of NAS-Bench-201 in official order"
        )
    return space, official_order()


def _whole(values: NDArray[np.float64]) -> NDArray[np.int64]:
    whole = np.nan_to_num(values, nan=-1.0, posinf=-1.0, neginf=-1.0).astype(np.int64)
    return np.where(whole == values, whole, -1)

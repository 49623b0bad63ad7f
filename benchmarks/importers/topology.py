"""NAS-Bench-201 as its authors distribute it: the ``.pth`` file of nas_201_api, or NATS-Bench's topology folder.

Both hold, per cell and training length (12 and 200 epochs), one record a data set and training seed; they are read
with a restricted unpickler, without torch, nas_201_api or nats_bench. One table a data set:

    valid@E, test@E: the official splits, per seed. On CIFAR-10 valid comes from training on half of the training set
        (``cifar10-valid``) and test from training on all of it (``cifar10``): seeds of the two are other trainings.
    train_s@E: seconds of the training that valid comes from, validation not included, per seed.
    latency_ms (batch of 256, the authors' GPU), params, flops: counts, mean over the seeds of the longest training.

Sources: Dong and Yang, ICLR 2020; Dong et al., TPAMI 2021. Checked against what the two APIs answer.
"""

from __future__ import annotations

import bz2
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.importers import common
from nasplug.benchmarks.importers.common import Imported, ImportOptions
from nasplug.benchmarks.table import Table, TableInfo
from nasplug.errors import DataError
from nasplug.spaces import NASBench201
from nasplug.unpickling import RESULT_NAMES, load_pickle

__all__ = ["import_nats_folder", "import_pth"]

LESS_FULL = {"less": "12", "full": "200"}
_DATASETS = {
    "cifar10": ("cifar10-valid", "x-valid", "cifar10", "ori-test"),
    "cifar100": ("cifar100", "x-valid", "cifar100", "x-test"),
    "imagenet16-120": ("ImageNet16-120", "x-valid", "ImageNet16-120", "x-test"),
}
"""Our name -> the API's data set and split of valid, and of test."""

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_META = "meta.pickle.pbz2"
_CELL_FILE = re.compile(r"\d{6}\.pickle\.pbz2")

Cell = tuple[str, Mapping[str, Any]]
"""Architecture string, and per training length (``"12"``, ``"200"``) the record of its trainings."""


def import_pth(path: Path, options: ImportOptions) -> list[Imported]:
    """Return one table a data set of ``NAS-Bench-201-v1_*.pth``; the real files need tens of gigabytes of memory."""
    content = _read_torch(path)
    try:
        cells = [
            (str(content["meta_archs"][index]), {LESS_FULL.get(key, key): one for key, one in record.items()})
            for index, record in content["arch2infos"].items()
        ]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} has not the layout of a NAS-Bench-201 file ({type(error).__name__}: {error})"
        ) from error
    return _tables(cells, "nasbench201", f"NAS-Bench-201 (Dong and Yang, ICLR 2020), {path.name}", path, options)


def import_nats_folder(path: Path, options: ImportOptions) -> list[Imported]:
    """Return one table a data set of a NATS-Bench folder ``NATS-tss-*-simple`` or ``-full``, or of the one inside."""
    unpacked = list(path.glob(f"*/{_META}"))
    if len(unpacked) == 1 and not (path / _META).exists():
        path = unpacked[0].parent
    meta = load_pickle(_unpacked(path / _META), str(path / _META), _ALLOWED)
    files = sorted(file for file in path.iterdir() if _CELL_FILE.fullmatch(file.name))
    if not files:
        raise DataError(f"{path} has no architecture files such as 000000.pickle.pbz2; unpack the archive again")

    def read(file: Path) -> Cell:
        record = load_pickle(_unpacked(file), str(file), _ALLOWED)
        try:
            listed = str(meta["meta_archs"][int(file.name[:6])])
            inside = {str(one["arch_str"]) for one in record.values()}
            needed = {length: _needed(one) for length, one in record.items()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(f"{file} has not the layout of NATS-Bench ({type(error).__name__}: {error})") from error
        if inside != {listed}:
            raise DataError(f"{file} is of {', '.join(sorted(inside))}, {_META} says {listed}")
        return listed, needed

    cells = []
    with ThreadPoolExecutor() as pool:  # unpacking bz2 takes most of the time, and runs in parallel
        for done, cell in enumerate(pool.map(read, files), 1):
            cells.append(cell)
            options.progress(done, len(files))
    return _tables(cells, "nats-tss", f"NATS-Bench (Dong et al., TPAMI 2021), {path.name}", path, options)


def _needed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without the losses and curves that no column shows: a folder of 15,625 must fit in memory."""
    trainings = {}
    for key, one in record["all_results"].items():
        last = int(one["epochs"]) - 1
        keep = {name: value for name, value in one["eval_acc1es"].items() if name.endswith(f"@{last}")}
        trainings[key] = {name: one[name] for name in ("epochs", "params", "flop", "latency", "train_times")}
        trainings[key]["eval_acc1es"] = keep
        if isinstance(one["train_times"], Mapping):
            trainings[key]["train_times"] = {"all": float(sum(one["train_times"].values()))}
    return {"all_results": trainings, "dataset_seed": record["dataset_seed"]}


# -- reading ---------------------------------------------------------------------------------------------------------


def _inert(*_: Any, **__: Any) -> None:
    """Stands for a tensor: weights are not wanted."""


_ALLOWED = {
    **RESULT_NAMES,
    **{("torch", f"{kind}Storage"): _inert for kind in ("Float", "Double", "Half", "Long", "Int")},
    ("torch._utils", "_rebuild_tensor_v2"): _inert,
}


def _read_torch(path: Path) -> Any:
    """Return the object of a file that ``torch.save`` wrote, either format, without its tensors."""
    try:
        with path.open("rb") as stream:
            if zipfile.is_zipfile(stream):
                with zipfile.ZipFile(stream) as archive:
                    inner = [one for one in archive.infolist() if one.filename.endswith("/data.pkl")]
                    # torch never compresses, so what is unpacked is no larger than the file.
                    if len(inner) != 1 or inner[0].compress_type != zipfile.ZIP_STORED:
                        raise DataError(f"{path} is a zip file, but not one that torch.save wrote")
                    with archive.open(inner[0]) as data:
                        return load_pickle(cast(BinaryIO, data), str(path), _ALLOWED)
            stream.seek(0)
            # The format before torch 1.6: magic number, protocol, machine, then the object.
            if load_pickle(stream, str(path), {}) != _TORCH_MAGIC:
                raise DataError(f"{path} was not written by torch.save; expected a NAS-Bench-201 .pth file")
            for _ in range(2):
                load_pickle(stream, str(path), {})
            return load_pickle(stream, str(path), _ALLOWED)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _unpacked(path: Path) -> bytes:
    try:
        with bz2.open(path) as stream:
            data = stream.read(common.MAX_UNPACKED_BYTES // 16 + 1)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; unpack the archive again") from error
    if len(data) > common.MAX_UNPACKED_BYTES // 16:
        raise DataError(f"{path} unpacks to far more than an architecture's results need; not read")
    return data


# -- columns ---------------------------------------------------------------------------------------------------------


def _tables(cells: Sequence[Cell], name: str, source: str, path: Path, options: ImportOptions) -> list[Imported]:
    space = NASBench201()
    genotypes = common.architectures(space, [string for string, _ in cells], str(path))
    tables = []
    for dataset, splits in _DATASETS.items():
        try:
            columns, messages = _columns(cells, *splits)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(f"{path}: the records of {dataset} have an unknown layout ({error!r})") from error
        if not any(column.startswith(("valid", "test")) for column in columns):
            continue
        if len(cells) < space.size:
            messages.append(f"{len(cells)} of the {space.size} architectures of {space.name}")
        notes = ("valid and test come from different trainings: half of the training set, and all of it.",)
        info = TableInfo(
            space=space.name,
            search=Signal("valid"),
            report=Signal("test"),
            source=source,
            licence="MIT",
            notes=notes if dataset == "cifar10" else (),
        )
        table = Table(common.table_info(options, info, columns), space, genotypes, columns)
        tables.append(Imported(dataset, f"{name}-{dataset}", table, tuple(messages)))
    if not tables:
        raise DataError(f"{path} has no valid or test accuracies of {', '.join(_DATASETS)}")
    return tables


def _columns(
    cells: Sequence[Cell], valid_set: str, valid_split: str, test_set: str, test_split: str
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Return the columns that every cell has, and a message for each that only some have."""
    lengths = sorted({length for _, records in cells for length in records if length.isdecimal()}, key=int)
    found: dict[str, list[list[float]]] = {}
    for length in lengths:
        records = [record.get(length) for _, record in cells]
        found[f"valid@{length}"] = [_accuracies(record, valid_set, valid_split, int(length)) for record in records]
        found[f"test@{length}"] = [_accuracies(record, test_set, test_split, int(length)) for record in records]
        found[f"train_s@{length}"] = [_seconds(record, valid_set) for record in records]
    longest = [record.get(lengths[-1]) if lengths else None for _, record in cells]
    for name, key, scale in (("latency_ms", "latency", 1e3), ("params", "params", 1e6), ("flops", "flop", 1e6)):
        found[name] = [_mean(_costs(record, valid_set, key), scale) for record in longest]
    columns, messages = {}, []
    for name, rows in found.items():
        held = sum(map(bool, rows))
        if held == len(cells):
            columns[name] = _padded(rows)
        elif held:
            messages.append(f"{name} is left out: {held} of {len(cells)} architectures have it")
    return columns, messages


def _trainings(record: Any, dataset: str) -> Iterable[Mapping[str, Any]]:
    """Return a cell's trainings on a data set, in the order of their seeds."""
    if record is None:
        return []
    return [record["all_results"][dataset, seed] for seed in record["dataset_seed"].get(dataset, [])]


def _accuracies(record: Any, dataset: str, split: str, epochs: int) -> list[float]:
    values = []
    for one in _trainings(record, dataset):
        if int(one["epochs"]) != epochs:
            raise ValueError(f"a record of {epochs} epochs says {one['epochs']}")
        percent = one["eval_acc1es"].get(f"{split}@{epochs - 1}")
        if percent is not None:
            values.append(float(percent) / 100)
            if not 0 <= values[-1] <= 1:
                raise ValueError(f"accuracy {percent} is not in percent")
    return values


def _seconds(record: Any, dataset: str) -> list[float]:
    times = [one["train_times"] for one in _trainings(record, dataset)]
    return [float(sum(one.values())) for one in times if one]


def _costs(record: Any, dataset: str, key: str) -> list[float]:
    values = [one[key] for one in _trainings(record, dataset)]
    numbers = [float(np.mean(value)) for value in values if value is not None]
    return [number for number in numbers if number > 0]


def _mean(values: list[float], scale: float) -> list[float]:
    """Return the mean in the table's unit, rounded to the last digit that the source's unit could mean."""
    return [round(float(np.mean(values)) * scale, 6)] if values else []


def _padded(rows: Sequence[list[float]]) -> NDArray[np.float64]:
    width = max(map(len, rows))
    table = np.array([row + [np.nan] * (width - len(row)) for row in rows])
    return table[:, 0] if width == 1 else table

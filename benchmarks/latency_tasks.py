"""Published protocols of few-shot latency prediction, as data: source and target devices, rows, figures.

Each task names devices of a latency file (:func:`nasplug.benchmarks.importers.help_npz.read_help`, rows in file order);
a file may lack some, so a task is narrowed to those there are and says which are missing. Sources: HELP (arXiv
2106.08630, table 3), NASFLAT (arXiv 2403.02446, tables and device lists of its code). Figures are mean Spearman over
the task's targets, as published for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.base import LatencyBank
from nasplug.errors import DataError

__all__ = ["TASKS", "LatencyTask", "help_trimmed_rows", "unmeasured_rows"]


@dataclass(frozen=True)
class LatencyTask:
    """Learn from some devices, predict others.

    Attributes:
        name: as published.
        space: registered name.
        sources: devices to learn from.
        targets: devices to predict.
        source_rows: the first rows of the file, on which sources are known and targets measured.
        measured: networks measured on a target.
        published: method -> mean Spearman over all targets.
    """

    name: str
    space: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    source_rows: int
    measured: int
    published: Mapping[str, float] = field(default_factory=dict)

    def narrowed(self, bank: LatencyBank) -> tuple[LatencyTask, tuple[str, ...]]:
        """Return the task on the devices that the bank holds, and those it lacks.

        Raises: DataError for a bank of another space, or one without a source or a target.
        """
        if bank.space.name != self.space:
            raise DataError(f"task {self.name} is of space {self.space!r}, the file of {bank.space.name!r}")
        there = set(bank.devices)
        sources = tuple(device for device in self.sources if device in there)
        targets = tuple(device for device in self.targets if device in there)
        if not sources or not targets or len(bank) < self.source_rows:
            raise DataError(
                f"task {self.name} needs a source of {', '.join(self.sources)}, a target of {', '.join(self.targets)} "
                f"and {self.source_rows} rows; the file holds {', '.join(bank.devices)} and {len(bank)} rows"
            )
        missing = tuple(device for device in (*self.sources, *self.targets) if device not in there)
        return replace(self, sources=sources, targets=targets), missing


def help_trimmed_rows(ms: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return HELP's test rows of one device: 900 to 1,899 without the slowest and the fastest tenth, ``(800,)``.

    Which tenth is decided by the device's own latencies, as HELP's code does; trimming lowers rank correlations.
    """
    rows = np.arange(900, 1900)
    order = rows[np.argsort(ms[rows], kind="stable")]
    return np.sort(order[100:900])


def unmeasured_rows(n: int, measured: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return all of n rows but the measured ones."""
    return np.setdiff1d(np.arange(n), measured)


_GPUS = ("1080ti", "2080ti", "titan_rtx", "titanx", "titanxp")


def _help_sources(largest_batch: int) -> tuple[str, ...]:
    phones_and_servers = ("silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1", "samsung_s7")
    return (*(f"1080ti_{batch}" for batch in (1, 32, largest_batch)), *phones_and_servers)


def _flat(name: str, sources: str, targets: str, help_: float, multipredict: float, nasflat: float) -> LatencyTask:
    published = {"HELP": help_, "MultiPredict": multipredict, "NASFLAT": nasflat}
    return LatencyTask(name, "fbnet", tuple(sources.split()), tuple(targets.split()), 800, 20, published)


_HELP_TARGETS = ("titan_rtx_256", "gold_6226", "pixel2", "raspi4", "eyeriss", "fpga")

TASKS: Mapping[str, LatencyTask] = {
    task.name: task
    for task in (
        LatencyTask("HELP", "nasbench201", _help_sources(256), _HELP_TARGETS, 900, 10, {"HELP": 0.932}),
        LatencyTask(
            "ND",
            "nasbench201",
            _help_sources(256),
            _HELP_TARGETS,
            900,
            20,
            {"HELP": 0.948, "MultiPredict": 0.930, "NASFLAT": 0.959},
        ),
        _flat("FD", " ".join(_help_sources(64)), "fpga raspi4 eyeriss", 0.910, 0.960, 0.961),
        _flat(
            "FA",
            " ".join(f"{gpu}_{batch}" for gpu in _GPUS for batch in (1, 32, 64)),
            "gold_6226 essential_ph_1 samsung_s7 pixel2",
            0.370,
            0.450,
            0.577,
        ),
        _flat(
            "F1",
            "2080ti_1 essential_ph_1 silver_4114 titan_rtx_1 titan_rtx_32",
            "eyeriss fpga raspi4 samsung_a50 samsung_s7",
            0.793,
            0.756,
            0.809,
        ),
        _flat(
            "F2",
            "essential_ph_1 gold_6226 gold_6240 pixel3 raspi4",
            "1080ti_1 1080ti_32 2080ti_32 titan_rtx_1 titanxp_1",
            0.543,
            0.567,
            0.871,
        ),
        _flat(
            "F3",
            "essential_ph_1 pixel2 pixel3 raspi4 samsung_s7",
            "1080ti_1 1080ti_32 2080ti_1 titan_rtx_1 titan_rtx_32",
            0.413,
            0.434,
            0.814,
        ),
        _flat(
            "F4",
            "1080ti_64 2080ti_1 eyeriss gold_6226 gold_6240 raspi4 samsung_s7 silver_4210r titan_rtx_1 titan_rtx_32",
            "1080ti_1 pixel2 essential_ph_1",
            0.799,
            0.763,
            0.734,
        ),
    )
}
"""The tasks that the files in HELP's layout hold; NASFLAT's NA and N1 to N4 need EAGLE's devices, which they lack."""

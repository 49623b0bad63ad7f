"""What an architecture is worth: the contract of a benchmark, and which label a search or a report looks at."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space

__all__ = ["Benchmark", "Signal", "higher_is_better", "is_cost"]

_SIGNAL = re.compile(r"(?P<metric>[A-Za-z_][\w.-]*)(?:@(?P<epochs>\d+))?(?::(?P<seeds>mean|one|others))?")


def is_cost(metric: str) -> bool:
    """Return whether a metric counts what an architecture costs: a count, or a name that ends in a unit."""
    return metric in ("params", "flops") or metric.endswith(("_s", "_ms", "_mb", "_mj"))


def higher_is_better(metric: str) -> bool:
    """Return whether more of a metric is better: not of costs and of losses."""
    return not (is_cost(metric) or metric.endswith(("loss", "error", "uncertainty")))


@dataclass(frozen=True)
class Signal:
    """A label of an architecture, written ``metric@epochs:seeds``, for example ``valid@12`` or ``valid@200:one``.

    Attributes:
        metric: ``valid`` and ``test`` are accuracies (fractions) on those splits; other metrics carry their unit in
            the name (``latency_ms``, ``train_s``, ``params``, ``flops``).
        epochs: training length; None means the longest that the benchmark holds.
        seeds: over training seeds: ``mean`` of all; ``one``, a single one, fixed for a run (what a real search sees);
            ``others``, the mean of those that ``one`` does not show (an honest report where there is no test split).
    """

    metric: str
    epochs: int | None = None
    seeds: Literal["mean", "one", "others"] = "mean"

    @classmethod
    def parse(cls, text: str) -> Signal:
        """Read the written form; raises InputError showing it."""
        match = _SIGNAL.fullmatch(text)
        if match is None:
            raise InputError(f"expected METRIC[@EPOCHS][:mean|one|others], such as valid@12, got {text!r}")
        epochs = match["epochs"]
        return cls(match["metric"], int(epochs) if epochs else None, match["seeds"] or "mean")  # type: ignore[arg-type]

    def __str__(self) -> str:
        return (
            self.metric
            + (f"@{self.epochs}" if self.epochs else "")
            + ("" if self.seeds == "mean" else f":{self.seeds}")
        )

    @property
    def split(self) -> str | None:
        """The data split that the metric's name begins with, None where it names none."""
        split = self.metric.partition("_")[0]
        return split if split in ("train", "valid", "test") else None


class Benchmark(ABC):
    """A space plus labels; vectorised, deterministic, and it refuses what it does not hold.

    Attributes:
        name: the registered name.
        space: the space of its architectures.
        search: what a search sees by default.
        report: what a report shows by default, never shown to a search.
        notes: sentences every report must carry, for example that there is one split only.
        continues: a longer training goes on from a shorter one, so that after 3 epochs the fourth is paid alone;
            False where lengths are trainings of their own.
        trains: whether labels come from trainings that are made when they are asked for.
    """

    name: str
    space: Space
    search: Signal
    report: Signal
    notes: tuple[str, ...] = ()
    continues: bool = False
    trains: bool = False

    @abstractmethod
    def query(
        self, genotypes: Genotypes, metric: str, *, epochs: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        """Return one label a row, ``(n,)``.

        Args:
            genotypes: ``(n, s)``; an architecture the benchmark does not hold raises DataError.
            metric: a metric it holds; others raise UnknownNameError.
            epochs: training length, None for the longest; one it does not hold raises DataError.
            seed: index of a training seed; None gives the mean over those the architecture has.
        """

    @abstractmethod
    def n_seeds(self, metric: str, epochs: int | None = None) -> int:
        """Return how many training seeds every architecture has for a metric, at least 1."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return JSON-ready facts for a report: source, licence, rows, checksum."""

    def architectures(self) -> Genotypes | None:
        """Return all architectures it holds, ``(rows, s)``, or None where they cannot be listed."""
        return None

    def fidelities(self, metric: str) -> tuple[int, ...]:
        """Return the training lengths in epochs at which it holds a metric, ascending; () where length means nothing.

        A search that stops trainings early walks up these, and sees the metric at each.
        """
        return ()

    def costs(self) -> tuple[str, ...]:
        """Return the metrics it holds that a user of an architecture pays: latencies, parameters, FLOPs, energy.

        Each is asked for with :meth:`query`, without a training length, and less is better. () where it holds none.
        """
        return ()

    def notable(self) -> tuple[Signal, ...]:
        """Return what a person likes to see beside what a search sees: the reported label, and what is paid.

        () where a label may have to be trained for, which is where the architectures cannot be listed.
        """
        if self.architectures() is None:
            return ()
        return (self.report, *(Signal(metric) for metric in self.costs()))

    def cost_s(self, genotypes: Genotypes, signal: Signal) -> NDArray[np.float64]:
        """Return the (simulated) seconds that one evaluation of ``signal`` costs, ``(n,)``; NaN where unknown.

        They count from the first epoch, also where a shorter training has been paid for (:attr:`continues`).
        """
        return np.full(len(genotypes), np.nan)

    def seed_values(self, genotypes: Genotypes, metric: str, epochs: int | None = None) -> NDArray[np.float64]:
        """Return the labels of all training seeds, ``(n, k)``, k >= n_seeds; NaN for one that an architecture lacks."""
        seeds = range(self.n_seeds(metric, epochs))
        return np.stack([self.query(genotypes, metric, epochs=epochs, seed=k) for k in seeds], axis=1)

    def labels(self, genotypes: Genotypes, signal: Signal, run: int = 0) -> NDArray[np.float64]:
        """Return the signal of each row, ``(n,)``; ``run`` picks the training seed where the rule is one or others."""
        if signal.seeds == "mean":
            return self.query(genotypes, signal.metric, epochs=signal.epochs)
        n_seeds = self.n_seeds(signal.metric, signal.epochs)
        shown = run % n_seeds
        if signal.seeds == "one":
            return self.query(genotypes, signal.metric, epochs=signal.epochs, seed=shown)
        if n_seeds < 2:
            raise InputError(f"{self.name} has one training seed of {signal.metric}; ':others' needs two")
        every = self.seed_values(genotypes, signal.metric, signal.epochs)
        others: NDArray[np.float64] = np.nanmean(np.delete(every, shown, axis=1), axis=1)
        return others

"""NNI's builtin tuners as nasplug strategies, to compete in ``nasplug compare``: ``nni:tpe`` and others.

NNI 3.0 is the last release, so what is replaced of its tuners here (where they draw from, nothing else) stays put.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import nni
import numpy as np
from nni.algorithms.hpo.evolution_tuner import EvolutionTuner
from nni.algorithms.hpo.gridsearch_tuner import GridSearchTuner
from nni.algorithms.hpo.random_tuner import RandomTuner
from nni.algorithms.hpo.regularized_evolution_tuner import RegularizedEvolutionTuner
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.tuner import Tuner
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Float, Genotypes, Integer, Parameter, Space
from nasplug.strategies import History, Status
from nasplug.strategies.peer import Optimizer, Peer

__all__ = ["NniPeer"]

LONGEST_LIST = 10_000
"""Most values of a parameter that ``regularized-evolution``, which knows lists alone, is given."""

TunerName = Literal["tpe", "evolution", "random", "grid", "regularized-evolution"]


@dataclass(frozen=True, kw_only=True)
class NniPeer(Peer):
    """A builtin tuner of NNI 3.0, called as NNI calls it but without a manager, a trial process or a file.

    How a peer searches, and what it is given for nothing: :class:`~nasplug.strategies.peer.Peer`. Evaluations that
    the tuner did not ask for reach it through ``import_data``, as when NNI resumes: the two evolutions ignore them.

    The tuner sees ``choice`` for categories, ``randint``, ``quniform``, ``uniform``, ``loguniform`` and
    ``qloguniform`` for numbers; ``regularized-evolution`` sees ``layer_choice`` for all, the one kind it knows.

    Both evolutions draw from Python's global stream, and one from the operating system. Here they draw from the seed;
    the global stream is as it was after each call, and calls of different threads wait for each other.

    Args:
        tuner: ``tpe`` (what it repeats it replaces by the next point of a grid, as NNI does), ``evolution``,
            ``random`` (without replacement), ``grid``, ``regularized-evolution``.
        population: of the two evolutions; None is NNI's default, 32 and 100.

    Raises:
        InputError: a population for another tuner, or below 2; ``regularized-evolution`` over a space with a
            parameter of more than 10,000 values.
    """

    tuner: TunerName = "tpe"
    population: int | None = None

    def __post_init__(self) -> None:
        if self.population is not None and self.tuner not in ("evolution", "regularized-evolution"):
            raise InputError(f"nni:{self.tuner} has no population; leave the option out")
        if self.population is not None and self.population < 2:
            raise InputError(f"nni:{self.tuner} needs a population of at least 2, got {self.population}")
        if self.tuner == "regularized-evolution":
            for parameter in self.space.parameters:
                if parameter.size > LONGEST_LIST:
                    raise InputError(
                        f"nni:regularized-evolution knows lists of choices alone, and parameter {parameter.name!r} has "
                        f"{parameter.size} values, more than {LONGEST_LIST}; take nni:evolution or nni:tpe"
                    )

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        with _silent():
            return super()._candidates(history, n, rng)

    def _optimizer(self, history: History, seed: int) -> _Experiment:
        size = {} if self.population is None else {"population_size": self.population}
        sites: list[_Site] = [_Site.of(parameter) for parameter in self.space.parameters]
        stream = None
        tuner: Tuner
        match self.tuner:
            case "tpe":
                tuner = TpeTuner("maximize", seed)
            case "random":
                tuner = RandomTuner(seed)
            case "grid":
                tuner = GridSearchTuner()
            case "evolution":
                tuner, stream = _Evolution(seed, **size), random.Random(seed)
            case "regularized-evolution":
                tuner, stream = RegularizedEvolutionTuner(**size), random.Random(seed)
                sites = [_Site.listed(parameter) for parameter in self.space.parameters]
        return _Experiment(self.space, tuner, sites, stream)


class _Experiment(Optimizer[int]):
    """A tuner with the part of NNI's manager that it needs: identifiers of parameters, and what they were."""

    def __init__(self, space: Space, tuner: Tuner, sites: list[_Site], stream: random.Random | None):
        self.tuner = tuner
        self._space = space
        self._sites = sites
        self._stream = stream
        self._asked: dict[int, Any] = {}
        self._count = 0
        with self._drawing():
            tuner.update_search_space({site.parameter.name: site.entry for site in sites})

    def ask(self) -> tuple[int, NDArray[np.int64]] | None:
        try:
            with self._drawing():
                given = self.tuner.generate_parameters(self._count)
        except nni.NoMoreTrialError:
            return None
        handle = self._count
        self._count += 1
        self._asked[handle] = given
        # By way of values: a combination need not be one that the space lists, and from_params has its representative.
        chosen = {site.parameter.name: site.parse(given[site.parameter.name]) for site in self._sites}
        return handle, self._space.from_params([chosen])[0]

    def tell(self, handle: int, history: History, row: int) -> None:
        if history.status[row] != Status.OK:
            self.withdraw(handle)
            return
        with self._drawing():
            self.tuner.receive_trial_result(handle, self._asked.pop(handle), float(history.values[row, 0]))
            self.tuner.trial_end(handle, True)

    def withdraw(self, handle: int) -> None:
        del self._asked[handle]
        with self._drawing():
            self.tuner.trial_end(handle, False)

    def learn(self, history: History, row: int) -> None:
        if history.status[row] != Status.OK:
            return
        codes = history.genotypes[row].tolist()
        told = {site.parameter.name: site.told(code) for site, code in zip(self._sites, codes, strict=True)}
        with self._drawing():
            self.tuner.import_data([{"parameter": told, "value": float(history.values[row, 0])}])

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Let the tuner draw from its own stream where it would from Python's global one."""
        if self._stream is None:
            yield
            return
        with _GLOBAL_STREAM:
            outside = random.getstate()
            random.setstate(self._stream.getstate())
            try:
                yield
            finally:
                self._stream.setstate(random.getstate())
                random.setstate(outside)


_GLOBAL_STREAM = threading.Lock()


class _Evolution(EvolutionTuner):  # type: ignore[misc] # NNI is not typed
    """NNI's tuner with a seed, and without its error when all of its population is being evaluated."""

    def __init__(self, seed: int, **options: Any):
        super().__init__("maximize", **options)
        self._seed = seed

    def update_search_space(self, search_space: Mapping[str, Any]) -> None:
        super().update_search_space(search_space)
        # Drawn again: the first draws were the operating system's.
        self.random_state = np.random.RandomState(self._seed)
        self.population: list[Any] = []
        for _ in range(self.population_size):
            self._random_generate_individual()

    def generate_parameters(self, parameter_id: int, **options: Any) -> Any:
        if not self.population:
            raise nni.NoMoreTrialError
        return super().generate_parameters(parameter_id, **options)


@dataclass(frozen=True)
class _Site:
    """A parameter as a tuner sees it: floats and logarithmic integers by value, all else by code.

    Attributes:
        parameter: the site.
        entry: its line of NNI's search space.
        parse: the parameter's value of what the tuner gives.
        told: what the tuner is told for a code.
    """

    parameter: Parameter
    entry: dict[str, Any]
    parse: Callable[[Any], Any]
    told: Callable[[int], Any]

    @classmethod
    def of(cls, parameter: Parameter) -> _Site:
        """Return the nearest kind that NNI has."""

        def value(code: float) -> Any:
            return parameter.decode(np.array([round(code)]))[0]

        match parameter:
            case Float(step=None, low=low, high=high, log=log) if low < high:
                # exp(log(high)) may be above it.
                kind = "loguniform" if log else "uniform"
                return cls(parameter, _entry(kind, low, high), lambda x: min(max(x, low), high), value)
            case Integer(step=1, low=low, high=high, log=True):
                return cls(parameter, _entry("qloguniform", low, high, 1), round, value)
            case Integer(step=1):
                return cls(parameter, _entry("randint", 0, parameter.size), value, int)
            case Integer() | Float() if parameter.size > 1:
                return cls(parameter, _entry("quniform", 0, parameter.size - 1, 1), value, float)
        return cls(parameter, _entry("choice", *range(parameter.size)), value, int)

    @classmethod
    def listed(cls, parameter: Parameter) -> _Site:
        """Return the parameter as a list of its codes, as a layer choice is in NNI."""
        return cls(
            parameter,
            _entry("layer_choice", *range(parameter.size)),
            lambda chosen: parameter.decode(np.array([chosen["_value"]]))[0],
            lambda code: {"_value": code, "_idx": code},
        )


def _entry(kind: str, *values: Any) -> dict[str, Any]:
    return {"_type": kind, "_value": list(values)}


@contextmanager
def _silent() -> Iterator[None]:
    """Keep NNI's notes off the standard output, where it sends them; global settings stay."""
    handlers = logging.getLogger("nni").handlers[:]
    drop = lambda record: record.levelno >= logging.WARNING  # noqa: E731 - the filter must be one object to be removed
    for handler in handlers:
        handler.addFilter(drop)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(drop)

"""nasplug strategies as exploration strategies of NNI's NAS framework, ``nni.nas`` 3.0.

Nothing here knows a strategy's algorithm: a model space becomes a space of ours, a genotype a sample of NNI's.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.errors import InputError, MissingDependencyError, SpaceExhaustedError
from nasplug.plugins.configured import checked_seed, drawn_seed, strategy_over
from nasplug.plugins.nni.benchmark_db import EDGE_LABELS, OPERATION_NAMES
from nasplug.plugins.nni.metrics import finite
from nasplug.plugins.nni.spaces import check_search_space, experiment_space
from nasplug.registry import Spec
from nasplug.spaces import NASBench201, Space
from nasplug.spaces.nasbench201 import OPERATIONS
from nasplug.strategies import History, Observation, Status, Strategy, trial_rng

try:
    from nni.mutable import Categorical, CategoricalMultiple, LabeledMutable, Numerical, SampleValidationError
    from nni.mutable.annotation import MutableAnnotation
    from nni.nas.execution import ExecutionEngine
    from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
    from nni.nas.space import ExecutableModelSpace, ModelStatus
    from nni.nas.strategy import Strategy as NniStrategy
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"NNI's NAS framework needs the package {error.name!r}; pip install 'nasplug[nni-nas]'"
    ) from error

__all__ = ["NasStrategy", "parameters"]

_logger = logging.getLogger(__name__)

LONGEST_LIST = 1000
"""Most combinations of inputs that one site is given."""
PATIENCE = 1000
"""Proposals in a row that the model space may refuse."""


class NasStrategy(NniStrategy):  # type: ignore[misc] # NNI is not typed
    """Let a nasplug strategy explore a model space, and never evaluate an architecture twice.

    Stands where ``nni.nas.strategy.RegularizedEvolution()`` stood, in a ``NasExperiment`` or called with a model space
    and an engine. Models that run are known to the strategy, so proposals at one time differ; a model that fails, or
    reports no finite number, is not tried again; one that was interrupted counts by its last intermediate result, as a
    hint. Architectures that the model space refuses (constraints) count as failed and cost no budget. The search
    ends, with a note in the log, when every architecture is taken or 1,000 in a row were refused.

    Reproducible: where one model runs at a time and none is refused, the very sequence of
    ``strategy.propose(history, 1, trial_rng(seed, number))``, that of ``nasplug search`` and of ``NasTuner``.

    Metrics are maximised, as in all of ``nni.nas``: a number, or a dict with ``default``.

    Args:
        strategy: a registered name with options, such as ``"weaknas:predictor=ridge"``; or a Strategy class or object.
        space: a nasplug Space or its registered name, whose structure the strategy may use. Labels and values of the
            model space are to be those of its parameters, a common scope such as ``cell/`` aside; for ``nasbench201``
            those of NNI's hub and benchmark will do. None: the labels and values of the model space, whatever they
            are. A strategy object brings its own.
        seed: not negative; None draws one.

    Raises:
        InputError: unknown names or options; when the search begins, a model space that does not fit ``space`` or has
            a choice that codes cannot name.
    """

    def __init__(
        self,
        strategy: str | Spec | type[Strategy] | Strategy = "weaknas",
        *,
        space: str | Space | None = None,
        seed: int | None = None,
    ):
        super().__init__()
        seed = checked_seed(seed)
        self._seed = drawn_seed() if seed is None else seed
        if isinstance(strategy, Strategy):
            if space is not None:
                raise InputError("a strategy object has a space already; leave space= out or pass the strategy's name")
            space = strategy.space
        self._named: Space | None = registry.configure("space", space) if isinstance(space, str) else space
        self._given = strategy
        # Built once now, so that a wrong name or option is an error here and not in the middle of an experiment.
        self._strategy = strategy_over(strategy, self._named)
        self._lock = threading.Lock()  # engines call back from threads of their own
        self._seen: list[Observation] = []
        self._count = 0
        # Strong references: an engine drops the events of a model that nobody holds.
        self._rows: dict[ExecutableModelSpace, int] = {}

    def extra_repr(self) -> str:
        return f"{self._given!r}, space={self._named!r}, seed={self._seed}"

    @property
    def history(self) -> History:
        """What has been evaluated, over the strategy's space; right also where NNI's own record mixes up models."""
        with self._lock:
            return History.of(self._strategy.space, self._seen)

    # -- NNI's hooks -------------------------------------------------------------------------------------------------

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        self._view = _View.of(model_space, self._named)
        self._strategy = strategy_over(self._given, self._view.space)
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        return model_space

    def _run(self) -> None:
        while self.wait_for_resource():
            model = self._next()
            if model is None:
                break
            self.engine.submit_models(model)
        self.engine.wait_models()  # or late results are lost

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)

    def state_dict(self) -> dict[str, Any]:
        """Return what has ended, JSON-ready; models that still run are forgotten, and may be proposed again."""
        with self._lock:
            ended = [asdict(one) for one in self._seen if one.status != Status.RUNNING]
            return {"count": self._count, "observations": ended}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        with self._lock:
            self._count = state_dict["count"]
            self._seen = [
                Observation(tuple(one["genotype"]), tuple(one["values"]), Status(one["status"]))
                for one in state_dict["observations"]
            ]

    # -- proposals and results ---------------------------------------------------------------------------------------

    def _next(self) -> ExecutableModelSpace | None:
        """Return the next model, which counts as running from now on; None at the end."""
        for _ in range(PATIENCE):
            with self._lock:
                number, self._count = self._count, self._count + 1
                history = History.of(self._strategy.space, self._seen)
                try:
                    genotype = self._strategy.propose(history, 1, trial_rng(self._seed, number))[0]
                except SpaceExhaustedError as error:
                    _logger.info("The search ends: %s.", error)
                    return None
                found = Observation(tuple(genotype.tolist()), (math.nan,), Status.RUNNING)
                try:
                    model = self.model_space.freeze(self._view.sample(genotype))
                except SampleValidationError as error:
                    _logger.debug("The model space refuses %s: %s", genotype, error)
                    self._seen.append(replace(found, status=Status.FAILED))
                    continue
                self._rows[model] = len(self._seen)
                self._seen.append(found)
                return model
        _logger.warning("The search ends: the model space refused %d architectures in a row.", PATIENCE)
        return None

    def _on_metric(self, event: FinalMetricEvent) -> None:
        self._settle(event.model, event.metric, Status.OK)

    def _on_end(self, event: TrainingEndEvent) -> None:
        """Close a model that reported nothing.

        With several trials at a time NNI may name another model here than the one that ended, but never where a metric
        is reported: a metric always counts, also one that comes after this.
        """
        row = self._rows.get(event.model)
        if row is not None and self._seen[row].status == Status.RUNNING:
            partial = event.status == ModelStatus.Interrupted and event.model.metrics.intermediates
            self._settle(event.model, partial[-1] if partial else None, Status.PRUNED)

    def _settle(self, model: ExecutableModelSpace, metric: Any, status: Status) -> None:
        number = finite(metric)
        value = math.nan if number is None else number
        with self._lock:
            row = self._rows.get(model)
            if row is None:  # of another strategy on the same engine
                return
            if math.isnan(value):
                status = Status.FAILED
                _logger.warning("A model ended without a finite metric, but %r; it counts as failed.", metric)
            self._seen[row] = replace(self._seen[row], values=(value,), status=status)


# -- model spaces ----------------------------------------------------------------------------------------------------


def parameters(model_space: Any) -> dict[str, dict[str, Any]]:
    """Return a model space as NNI's search space, one parameter a label: what ``NasTuner`` is given of it and more.

    Layer choices are a ``choice`` of their keys, input choices one of the lists they allow (as long as these are at
    most 1,000), numbers ``uniform``, ``loguniform`` or ``quniform``. Constraints are left out: ``freeze`` knows them.

    Raises: InputError for anything else.
    """
    return {
        label: _entry(label, one)
        for label, one in model_space.simplify().items()
        if not isinstance(one, MutableAnnotation)
    }


def _entry(label: str, mutable: LabeledMutable) -> dict[str, Any]:
    match mutable:
        case Categorical():
            return {"_type": "choice", "_value": list(mutable.values)}
        case CategoricalMultiple():
            return {"_type": "choice", "_value": _subsets(label, mutable.values, mutable.n_chosen)}
        case Numerical() if mutable.distribution.dist.name in ("uniform", "loguniform", "reciprocal"):
            kind = f"{'q' if mutable.quantize else ''}{'log' if mutable.log_distributed else ''}uniform"
            return {
                "_type": kind,
                "_value": [mutable.low, mutable.high, *([mutable.quantize] * bool(mutable.quantize))],
            }
    raise InputError(
        f"the model space has {mutable!r}, which no strategy here can search; use layer choices, input choices, "
        "nni.choice, or nni.uniform and nni.loguniform"
    )


def _subsets(label: str, values: Sequence[Any], n_chosen: int | None) -> list[list[Any]]:
    sizes: Iterable[int] = range(len(values) + 1) if n_chosen is None else [n_chosen]
    count = sum(math.comb(len(values), size) for size in sizes)
    if count > LONGEST_LIST:
        raise InputError(
            f"the input choice {label!r} allows {count} combinations, more than {LONGEST_LIST}; "
            "give it fewer candidates, or several choices"
        )
    return [list(chosen) for chosen in chain.from_iterable(combinations(values, size) for size in sizes)]


@dataclass(frozen=True)
class _View:
    """A model space as a space of ours.

    Attributes:
        space: the space.
        labels: NNI's label of each parameter.
        values: of each parameter, NNI's value of ours where they differ.
    """

    space: Space
    labels: Mapping[str, str]
    values: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, model_space: Any, named: Space | None) -> _View:
        """Return the view; raises InputError where the model space is not the one named."""
        found = parameters(model_space)
        if named is None:
            return cls(experiment_space(found), {label: label for label in found}, {})
        known: dict[str, str] = {}
        operations: dict[str, str] = {}
        if isinstance(named, NASBench201):
            known = dict(zip(EDGE_LABELS, (p.name for p in named.parameters), strict=True))
            operations = dict(zip(OPERATION_NAMES, OPERATIONS, strict=True))
        scope = _common_scope(list(found))
        sites = {label: known.get(label.removeprefix(scope), label.removeprefix(scope)) for label in found}
        translated = {
            sites[label]: {
                **entry,
                "_value": [operations.get(v, v) if isinstance(v, str) else v for v in entry["_value"]],
            }
            for label, entry in found.items()
        }
        check_search_space(named, named.name, translated)
        values = {
            sites[label]: {
                ours: theirs
                for ours, theirs in zip(translated[sites[label]]["_value"], entry["_value"], strict=True)
                if isinstance(ours, str)
            }
            for label, entry in found.items()
        }
        return cls(named, {site: label for label, site in sites.items()}, values)

    def sample(self, genotype: NDArray[np.int64]) -> dict[str, Any]:
        """Return NNI's sample ``{label: value}`` of a genotype ``(s,)``."""
        chosen = self.space.to_params(genotype[None])[0]
        return {
            self.labels[name]: self.values.get(name, {}).get(value, value)
            if isinstance(value, str)
            else copy.copy(value)
            for name, value in chosen.items()
        }


def _common_scope(labels: Sequence[str]) -> str:
    """Return the longest beginning of all labels that ends with a slash."""
    scope = labels[0]
    while scope and not (scope.endswith("/") and all(label.startswith(scope) for label in labels)):
        scope = scope[:-1]
    return scope

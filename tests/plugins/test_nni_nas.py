"""A model space explored by our strategies: natively, and by our tuner in NNI's wrapper, in NNI's sequential engine."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nni", reason="nni.nas needs nasplug[nni-nas]")
pytest.importorskip("pytorch_lightning", reason="nni.nas needs nasplug[nni-nas]")

import nni
import torch
from nni.mutable import Categorical, CategoricalMultiple, ExpressionConstraint, MutableList, Numerical, label_scope
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import ExecutionEngine, SequentialExecutionEngine
from nni.nas.execution.event import (
    FinalMetricEvent,
    IntermediateMetricEvent,
    TrainingEndEvent,
)
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableLinear
from nni.nas.space import BaseModelSpace, ModelStatus, RawFormatModelSpace, SimplifiedModelSpace
from nni.nas.strategy.hpo import HPOTunerStrategy

from nasplug.errors import InputError, UnknownNameError
from nasplug.plugins.nni import NasTuner
from nasplug.plugins.nni.nas import NasStrategy, parameters
from nasplug.plugins.nni.spaces import experiment_space
from nasplug.registry import configure
from nasplug.spaces import NASBench201
from nasplug.strategies import History, RandomSearch, Status, trial_rng

CELLS = NASBench201()
OPERATIONS = ["none", "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3"]


class Net(ModelSpace):
    """A small network: two layers to choose, one width."""

    def __init__(self) -> None:
        super().__init__()
        self.width = nni.choice("width", [2, 4, 8])
        self.first = MutableLinear(4, self.width)
        self.act = LayerChoice([torch.nn.ReLU(), torch.nn.Tanh(), torch.nn.Sigmoid()], label="act")
        head = {"plain": MutableLinear(self.width, 3), "none": torch.nn.Identity()}
        self.head = LayerChoice(head, label="head")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.first(x)))


class Mutables(BaseModelSpace, MutableList):
    """A space without a framework."""


EDGES = ("0_1", "0_2", "1_2", "0_3", "1_3", "2_3")


def scoped(scope: str, **choices: list[Any]) -> Mutables:
    with label_scope(scope):
        return Mutables([Categorical(values, label=label) for label, values in choices.items()])


def cell(scope: str = "cell", **changed: list[Any]) -> Mutables:
    return scoped(scope, **dict.fromkeys(EDGES, OPERATIONS) | changed)


def score(sample: dict[str, Any]) -> float:
    return sum((i + 1) * OPERATIONS.index(value) for i, value in enumerate(sample.values())) / 84


def explored(
    strategy: Any, space: BaseModelSpace, n: int, evaluate: Callable[[dict[str, Any]], Any] = score
) -> list[dict[str, Any]]:
    """Run a strategy in NNI's sequential engine; return the samples it tried."""

    def report(model: Any) -> None:
        nni.report_final_result(evaluate(model.sample))

    class Raw(RawFormatModelSpace):
        def execute(self) -> None:
            report(self)

    engine = SequentialExecutionEngine(max_model_count=n, continue_on_failure=True)
    strategy(Raw(space, None), engine)
    return [model.sample for model in engine.list_models()]


def test_the_sequence_is_that_of_the_strategy() -> None:
    strategy = NasStrategy("weaknas", space="nasbench201", seed=3)
    samples = explored(strategy, cell(), 20)
    plain, history = configure("strategy", "weaknas", CELLS), History.empty(CELLS)
    for number, sample in enumerate(samples):
        rows = plain.propose(history, 1, trial_rng(3, number))
        assert list(sample) == [f"cell/{p.name.removeprefix('edge_')}" for p in CELLS.parameters]
        assert [OPERATIONS.index(value) for value in sample.values()] == rows[0].tolist()
        history = history.extended(rows, np.array([score(sample)]))
    np.testing.assert_array_equal(strategy.history.genotypes, history.genotypes)
    np.testing.assert_array_equal(strategy.history.values, history.values)


def test_it_finds_better_than_random() -> None:
    best = [max(map(score, explored(NasStrategy(name, seed=0), cell(), 40))) for name in ("weaknas", "random")]
    assert best[0] > best[1]
    assert best[0] > 0.95


@pytest.mark.parametrize("model_format", [RawFormatModelSpace, SimplifiedModelSpace])
def test_a_torch_model_space_with_a_functional_evaluator(model_format: Any) -> None:
    """As a user writes it: the evaluator is given the frozen model, here a torch module."""
    shapes = []

    def evaluate(model: torch.nn.Module) -> None:
        shapes.append((model.first.out_features, *model(torch.zeros(1, 4)).shape))
        nni.report_final_result({"default": float(model.first.out_features), "loss": 0.1})

    engine = SequentialExecutionEngine(max_model_count=18)
    strategy = NasStrategy("local-search", seed=0)
    strategy(model_format.from_model(Net(), FunctionalEvaluator(evaluate)), engine)
    assert len(set(strategy.history.keys.tolist())) == 18  # every one of 3 x 3 x 2, none twice
    assert sorted(set(shapes)) == [(2, 1, 2), (2, 1, 3), (4, 1, 3), (4, 1, 4), (8, 1, 3), (8, 1, 8)]
    assert next(iter(strategy.list_models(limit=1))).sample["width"] == 8


def test_our_tuner_in_nnis_wrapper_gives_the_same_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nni.nas.strategy.hpo.time.sleep", lambda seconds: None)  # a second a model
    native = explored(NasStrategy("regularized-evolution", seed=5), cell(), 16)
    tuner = NasTuner("regularized-evolution", seed=5)
    assert explored(HPOTunerStrategy(tuner), cell(), 16) == native


def test_every_kind_of_choice() -> None:
    space = Mutables(
        [
            Categorical(["a", 1, (2, 3)], label="layer"),
            CategoricalMultiple(["x", "y", "z"], n_chosen=2, label="inputs"),
            CategoricalMultiple([0, 1], label="any"),
            Numerical(0.0, 1.0, label="dropout"),
            Numerical(1e-4, 1e-1, log_distributed=True, label="rate"),
            Numerical(2, 9, quantize=2, label="width"),
        ]
    )
    assert parameters(space) == {
        "layer": {"_type": "choice", "_value": ["a", 1, (2, 3)]},
        "inputs": {"_type": "choice", "_value": [["x", "y"], ["x", "z"], ["y", "z"]]},
        "any": {"_type": "choice", "_value": [[], [0], [1], [0, 1]]},
        "dropout": {"_type": "uniform", "_value": [0.0, 1.0]},
        "rate": {"_type": "loguniform", "_value": [1e-4, 1e-1]},
        "width": {"_type": "quniform", "_value": [2, 9, 2]},
    }
    samples = explored(NasStrategy("random", seed=0), space, 40, lambda sample: sample["dropout"])
    assert len(samples) == 40
    assert {tuple(sample["inputs"]) for sample in samples} == {("x", "y"), ("x", "z"), ("y", "z")}
    assert {sample["width"] for sample in samples} == {2, 4, 6, 8}
    assert all(space.contains(sample) for sample in samples)


def test_what_the_model_space_refuses_costs_no_budget() -> None:
    a, b = Categorical([0, 1, 2, 3], label="a"), Categorical([0, 1, 2, 3], label="b")
    strategy = NasStrategy("random", seed=0)
    samples = explored(strategy, Mutables([a, b, ExpressionConstraint(a + b == 3, label="c")]), 9, lambda sample: 1.0)
    assert len(samples) == 4  # all there are: the search ends of itself
    assert all(sample["a"] + sample["b"] == 3 for sample in samples)
    assert strategy.history.status.tolist().count(Status.FAILED) == 12


def test_a_model_space_that_refuses_everything_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplug.plugins.nni.nas.PATIENCE", 10)
    a = Numerical(0.0, 1.0, label="a")
    strategy = NasStrategy("random", seed=0)
    assert explored(strategy, Mutables([a, ExpressionConstraint(a > 2, label="c")]), 9) == []
    assert len(strategy.history) == 10


@pytest.mark.parametrize("bad", ["crash", float("nan"), "text", {"accuracy": 0.5}, None])
def test_a_model_without_a_finite_metric_counts_as_failed(bad: Any) -> None:
    def evaluate(sample: dict[str, Any]) -> Any:
        if sample["a"] == 1:
            if bad == "crash":
                raise RuntimeError("out of memory")
            return bad
        return sample["a"]

    strategy = NasStrategy("random", seed=0)
    samples = explored(strategy, Mutables([Categorical([0, 1, 2], label="a")]), 9, evaluate)
    assert sorted(sample["a"] for sample in samples) == [0, 1, 2]
    history = strategy.history
    failed = history.status == Status.FAILED
    assert history.genotypes[failed].tolist() == [[1]]
    assert history.values[~failed, 0].tolist() == history.genotypes[~failed, 0].tolist()


class Parallel(ExecutionEngine):
    """Three workers that end in the reverse order, one of them interrupted after an intermediate result."""

    def __init__(self, budget: int):
        super().__init__()
        self.budget, self.waiting, self.models = budget, [], []

    def submit_models(self, *models: Any) -> None:
        self.models += models
        self.waiting += models
        if len(self.waiting) == 3 or len(self.models) == self.budget:
            worker = threading.Thread(target=self.end)
            worker.start()
            worker.join()

    def end(self) -> None:
        for number, model in enumerate(self.waiting[::-1]):
            if number == 1:
                self.dispatch_model_event(IntermediateMetricEvent(model, 0.25))
                self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Interrupted))
            else:
                self.dispatch_model_event(FinalMetricEvent(model, score(model.sample)))
                self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))
        self.waiting = []

    def list_models(self, status: Any = None) -> Any:
        return self.models

    def idle_worker_available(self) -> bool:
        return True

    def budget_available(self) -> bool:
        return len(self.models) < self.budget


def test_models_that_run_at_once_differ_and_get_their_own_results() -> None:
    strategy, engine = NasStrategy("weaknas", seed=0), Parallel(30)
    strategy(RawFormatModelSpace(cell(), None), engine)
    history = strategy.history
    assert len(set(history.keys.tolist())) == 30
    expected = [score(sample) for sample in history.space.to_params(history.genotypes)]
    ended = history.status == Status.OK
    assert ended.sum() == 20
    np.testing.assert_allclose(history.values[ended, 0], np.array(expected)[ended])
    assert set(history.values[history.status == Status.PRUNED, 0]) == {0.25}
    assert Status.RUNNING not in history.status
    assert not any(engine._callbacks.values())
    engine.dispatch_model_event(FinalMetricEvent(engine.models[0], 1.0))  # of another strategy, later
    strategy._on_end(TrainingEndEvent(engine.models[0], ModelStatus.Trained))
    np.testing.assert_array_equal(strategy.history.values, history.values)


def test_an_end_that_names_the_wrong_model_spoils_nothing() -> None:
    """NNI's manager mixes up which of several trials ended; metrics carry the right one."""

    class Mixed(Parallel):
        def end(self) -> None:
            for ended, model in zip(self.waiting[::-1], self.waiting, strict=True):
                self.dispatch_model_event(TrainingEndEvent(ended, ModelStatus.Trained))
                self.dispatch_model_event(FinalMetricEvent(model, score(model.sample)))
            self.waiting = []

    strategy = NasStrategy("random", seed=0)
    strategy(RawFormatModelSpace(cell(), None), Mixed(12))
    history = strategy.history
    assert set(history.status.tolist()) == {Status.OK}
    expected = [score(sample) for sample in history.space.to_params(history.genotypes)]
    np.testing.assert_allclose(history.values[:, 0], expected)


def test_state_goes_on_in_another_object() -> None:
    whole = explored(NasStrategy("weaknas", seed=1), cell(), 16)
    first = NasStrategy("weaknas", seed=1)
    explored(first, cell(), 9)
    second = NasStrategy("weaknas", seed=1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert explored(second, cell(), 7) == whole[9:]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (scoped("cell", **{"0_1": OPERATIONS}), "lacks 'edge_0_2'"),
        (cell(x=[1]), "has unknown 'x'"),
        (
            cell(**{"2_3": OPERATIONS[1:]}),
            "for 'edge_2_3', space 'nasbench201' has",
        ),
    ],
)
def test_a_model_space_that_is_not_the_one_named_is_refused(space: Mutables, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explored(NasStrategy("random", space="nasbench201"), space, 2)


def test_our_own_names_and_other_named_spaces_fit_too() -> None:
    graph = configure("space", "nasbench-graph-proteins")
    space = scoped("net", **{p.name: list(p.choices) for p in graph.parameters})
    strategy = NasStrategy(RandomSearch(space=graph), seed=0)
    samples = explored(strategy, space, 5, lambda sample: 1.0)
    assert [graph.from_params([{k.removeprefix("net/"): v for k, v in s.items()}])[0].tolist() for s in samples] == (
        strategy.history.genotypes.tolist()
    )


def test_bad_arguments_are_refused_at_once() -> None:
    with pytest.raises(UnknownNameError, match="did you mean weaknas"):
        NasStrategy("weaknass")
    with pytest.raises(UnknownNameError, match="did you mean nasbench201"):
        NasStrategy("random", space="nasbench2001")
    with pytest.raises(InputError, match="seed must be an integer of at least 0"):
        NasStrategy("random", seed=-1)
    with pytest.raises(InputError, match="a strategy object has a space already"):
        NasStrategy(RandomSearch(space=CELLS), space="nasbench201")


@pytest.mark.parametrize(
    ("mutable", "message"),
    [
        (Numerical(mu=0.0, sigma=1.0, label="n"), "which no strategy here can search"),
        (CategoricalMultiple(range(12), label="many"), "'many' allows 4096 combinations, more than 1000"),
        (
            Numerical(1.0, 9.0, quantize=2.0, log_distributed=True, label="q"),
            "type qloguniform, which is not supported",
        ),
    ],
)
def test_choices_that_cannot_be_searched_are_refused(mutable: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explored(NasStrategy("random"), Mutables([mutable]), 2)


def test_seeds_and_representation() -> None:
    assert "'random', space=None, seed=4" in repr(NasStrategy("random", seed=4))
    drawn = [NasStrategy("random")._seed for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_the_space_of_the_native_strategy_is_that_of_the_tuner() -> None:
    tuner_sees = {label: one.as_legacy_dict() for label, one in cell().simplify().items()}
    assert experiment_space(parameters(cell())) == experiment_space(tuner_sees)


def test_without_lightning_the_extra_is_named() -> None:
    code = "import sys; sys.modules['pytorch_lightning'] = None\nimport nasplug.plugins.nni.nas"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingDependencyError" in done.stderr
    assert "pip install 'nasplug[nni-nas]'" in done.stderr

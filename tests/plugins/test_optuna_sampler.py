"""NasSampler: no repeats, one seed one sequence, and what it learns from each kind of trial."""

import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nasplug.errors import InputError, UnknownNameError
from nasplug.plugins.optuna import NasSampler, distributions, storage
from nasplug.plugins.optuna.trials import STALE
from nasplug.spaces import Categorical, Float, Genotypes, Integer, NASBench201, ParameterSpace, Space
from nasplug.strategies import History, RandomSearch, Status, Strategy, trial_rng

CELLS = NASBench201()
NAMES = [p.name for p in CELLS.parameters]
OPERATIONS = CELLS.parameters[0].choices
SMALL = ParameterSpace([Categorical("op", ("a", "b", "c")), Integer("width", 1, 5)])
SEEN: list[History] = []


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    SEEN.clear()
    yield
    optuna.logging.set_verbosity(before)


@dataclass(frozen=True, kw_only=True)
class Recorder(Strategy):
    """Random search that keeps every history it is given."""

    objectives = None

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        SEEN.append(history)
        return self.space.sample_distinct(n, rng, history.keys)


@dataclass(frozen=True, kw_only=True)
class Climb(Strategy):
    """Mutate the best, drawing from the generator: any difference in history or randomness shows."""

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        best = history.best()
        if best is None:
            return self.space.sample(n, rng)
        return self.space.mutate(np.repeat(history.genotypes[best : best + 1], n, axis=0), rng)


@dataclass(frozen=True, kw_only=True)
class First(Strategy):
    """Always the first unseen architecture: proposals of equal histories collide for certain."""

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        everything = self.space.all()
        return everything[~np.isin(self.space.keys(everything), history.keys)][:n]


def cell(trial: Any) -> float:
    return float(sum(OPERATIONS.index(trial.suggest_categorical(name, OPERATIONS)) for name in NAMES))


def small(trial: Any) -> float:
    return trial.suggest_int("width", 1, 5) + "abc".index(trial.suggest_categorical("op", ["a", "b", "c"])) / 10


def architectures(study: Any) -> list[tuple[Any, ...]]:
    return [tuple(value for _, value in sorted(trial.params.items())) for trial in study.get_trials(deepcopy=False)]


def distinct(study: Any) -> bool:
    rows = architectures(study)
    return len(set(rows)) == len(rows)


# -- one seed, one sequence ------------------------------------------------------------------------------------------


def test_with_space_the_sequence_is_that_of_the_plain_loop() -> None:
    study = optuna.create_study(direction="maximize", sampler=NasSampler(Climb, space="nasbench201", seed=7))
    study.optimize(cell, n_trials=60)
    strategy, history = Climb(space=CELLS), History.empty(CELLS)
    for number in range(60):
        g = strategy.propose(history, 1, trial_rng(7, number))
        history = history.extended(g, g.sum(axis=1))
    assert [t.params for t in study.trials] == CELLS.to_params(history.genotypes)
    assert [t.value for t in study.trials] == history.values[:, 0].tolist()


_CHILD = """
import json, optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
from nasplug.plugins.optuna import NasSampler
study = optuna.create_study(sampler=NasSampler("random", seed=3))
def objective(trial):
    kind = trial.suggest_categorical("kind", ["mlp", "cnn"])
    depth = trial.suggest_int("depth", 1, 30)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True) if kind == "mlp" else 0.0
    return depth + rate
study.optimize(objective, n_trials=25)
print(json.dumps([t.params for t in study.trials]))
"""


def test_same_sequence_in_fresh_processes_of_other_hash_seeds() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _CHILD], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(json.loads(outputs[0])) == 25


def test_other_seed_other_sequence_and_global_streams_untouched() -> None:
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global stream must not move
    runs = []
    for seed in (0, 1, None, None):
        study = optuna.create_study(sampler=NasSampler("random", seed=seed))
        study.optimize(cell, n_trials=5)
        runs.append(architectures(study))
    assert all(a != b for i, a in enumerate(runs) for b in runs[:i])
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_reseeding_does_not_change_the_draws() -> None:
    sampler = NasSampler("random", space=CELLS, seed=0)
    study = optuna.create_study(sampler=sampler)
    sampler.reseed_rng()
    study.optimize(cell, n_trials=3)
    again = optuna.create_study(sampler=NasSampler("random", space=CELLS, seed=0))
    again.optimize(cell, n_trials=3)
    assert architectures(study) == architectures(again)


def test_pickled_in_the_middle_it_goes_on_alike() -> None:
    study = optuna.create_study(direction="maximize", sampler=NasSampler(Climb, seed=5))
    study.optimize(cell, n_trials=10)
    other = pickle.loads(pickle.dumps(study))
    study.optimize(cell, n_trials=10)
    other.optimize(cell, n_trials=10)
    assert architectures(study) == architectures(other)


# -- no repeats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [None, SMALL])
def test_every_point_once_then_the_end(space: Space | None) -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=space, seed=0))
    with pytest.warns(UserWarning, match="all 15 architectures") if space is None else warnings.catch_warnings():
        study.optimize(small, n_trials=20)
    assert len(study.trials) == (20 if space is None else 15)
    assert len(set(architectures(study))) == 15


def test_exhausted_in_ask_and_tell_repeats_with_one_warning() -> None:
    study = optuna.create_study(sampler=NasSampler("random", space=SMALL, seed=0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(18):
            study.tell(trial := study.ask(distributions(SMALL)), trial.params["width"])
    assert len({tuple(t.params.values()) for t in study.trials}) == 15
    assert sum("have been tried" in str(w.message) for w in caught) == 1


def test_resumed_with_a_fresh_sampler_of_the_same_seed(tmp_path: Path) -> None:
    where = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "log")))
    for _ in range(3):
        study = optuna.create_study(
            storage=where, study_name="s", load_if_exists=True, sampler=NasSampler(First, seed=1)
        )
        study.optimize(small, n_trials=5)
    assert len(study.trials) == 15
    assert distinct(study)


@pytest.mark.parametrize("space", [None, CELLS])
def test_threads_do_not_repeat(space: Space | None) -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=space, seed=0))
    study.optimize(cell, n_trials=80, n_jobs=4)
    assert len(study.trials) == 80
    assert distinct(study)


_WORKER = """
import json, sys
import optuna
sys.path.insert(0, {tests!r})
optuna.logging.set_verbosity(optuna.logging.ERROR)
from test_optuna_sampler import First, SMALL, backend, cell, small
from nasplug.plugins.optuna import NasSampler
for line in sys.stdin:
    kind, where, space, n = json.loads(line)
    sampler = NasSampler(First, seed=0, space=SMALL if space == "small" else None)
    study = optuna.load_study(study_name="s", storage=backend(kind, where), sampler=sampler)
    print("ready", flush=True)
    sys.stdin.readline()
    study.optimize(small if space == "small" else cell, n_trials=n)
    print("done", flush=True)
"""


def backend(kind: str, where: str) -> Any:
    if kind == "journal":
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(where))
    return optuna.storages.RDBStorage(f"sqlite:///{where}", engine_kwargs={"connect_args": {"timeout": 100}})


@pytest.fixture(scope="module")
def workers() -> Iterator[list[subprocess.Popen[str]]]:
    """Four processes that load everything once; each takes one study after the other."""
    command = [sys.executable, "-c", _WORKER.format(tests=str(Path(__file__).parent))]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)
    ]
    yield started
    for worker in started:
        worker.communicate()
    assert [worker.returncode for worker in started] == [0] * 4


def answers(workers: list[subprocess.Popen[str]], line: str) -> list[str]:
    """Tell all of them a line, then wait for what each of them says."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(line + "\n")
    return [worker.stdout.readline().strip() for worker in workers if worker.stdout is not None]


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
@pytest.mark.parametrize(("space", "each"), [("small", 3), ("inferred", 4)])
def test_four_processes_of_one_seed_never_repeat(
    workers: list[subprocess.Popen[str]], tmp_path: Path, kind: str, space: str, each: int
) -> None:
    """A deterministic strategy makes every race a collision; the workers start at one moment."""
    where = str(tmp_path / "study")
    study = optuna.create_study(storage=backend(kind, where), study_name="s")
    assert answers(workers, json.dumps([kind, where, space, each])) == ["ready"] * 4
    assert answers(workers, "go") == ["done"] * 4
    assert len(study.trials) == 4 * each
    assert distinct(study)


def test_trials_that_start_before_anything_has_finished_differ() -> None:
    study = optuna.create_study(sampler=NasSampler("random", seed=0))
    for _ in range(3):  # never more than the choices of the last parameter, so there is always a way out
        small(study.ask())
    assert distinct(study)


@dataclass
class Rival:
    """Another worker that publishes a proposal between our writing and our reading back."""

    study: Any
    params: Mapping[str, Any]
    withdraws: bool
    reads: int = 0

    def trials(self, real: Callable[..., Any], study: Any, *, fresh: bool = True) -> Any:
        self.reads += 1
        if self.reads == 2:  # our claim is out
            self.trial = self.study.ask()
            storage.publish(self.study, self.trial._cached_frozen_trial, storage.PROPOSAL, self.params)
        if self.reads == 4 and self.withdraws:
            storage.publish(self.study, self.trial._cached_frozen_trial, storage.PROPOSAL, {"op": "c", "width": 5})
        return real(study, fresh=fresh)


@pytest.mark.parametrize("withdraws", [True, False])
def test_the_older_trial_waits_for_the_younger_to_withdraw(monkeypatch: pytest.MonkeyPatch, withdraws: bool) -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=SMALL, seed=0))
    rival = Rival(study, {"op": "a", "width": 1}, withdraws)
    real = storage.trials
    monkeypatch.setattr(storage, "trials", lambda study, *, fresh=True: rival.trials(real, study, fresh=fresh))
    trial = study.ask(distributions(SMALL))
    assert trial.params == ({"op": "a", "width": 1} if withdraws else {"op": "a", "width": 2})


def test_the_younger_trial_withdraws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=SMALL, seed=0))
    older, real, reads = study.ask(), storage.trials, []

    def trials(study: Any, *, fresh: bool = True) -> Any:
        reads.append(1)
        if len(reads) == 2:
            storage.publish(study, older._cached_frozen_trial, storage.PROPOSAL, {"op": "a", "width": 1})
        return real(study, fresh=fresh)

    monkeypatch.setattr(storage, "trials", trials)
    assert study.ask(distributions(SMALL)).params == {"op": "a", "width": 2}


def test_without_a_free_moment_a_repeat_is_accepted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NasSampler, "_stands", lambda *_: False)
    study = optuna.create_study(sampler=NasSampler("random", space=CELLS, seed=0))
    with pytest.warns(UserWarning, match="other workers were faster"):
        study.ask(distributions(CELLS))


def test_long_proposals_are_published_as_a_digest_and_still_kept_apart() -> None:
    space = ParameterSpace([Categorical(f"a_rather_long_name_{i}", ("x", "y")) for i in range(100)])
    study = optuna.create_study(sampler=NasSampler("random", space=space, seed=0))
    params = space.to_params(space.sample(1, trial_rng(0, 1)))[0]  # what trial 1 will want
    rival = study.ask()
    storage.publish(study, rival._cached_frozen_trial, storage.PROPOSAL, params)
    (text,) = study.trials[0].system_attrs.values()
    assert text == storage.digest(params)
    assert study.ask(distributions(space)).params != params


def test_a_killed_worker_keeps_its_architecture_and_blocks_nothing() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, space=CELLS, seed=0))
    dead = study.ask(distributions(CELLS))  # never told
    study.optimize(cell, n_trials=STALE + 5)
    assert distinct(study)
    key = CELLS.keys(CELLS.from_params([dead.params]))
    statuses = [int(h.status[h.keys == key][0]) for h in SEEN[1:]]
    assert statuses[0] == Status.RUNNING
    assert statuses[-1] == Status.FAILED


# -- enqueued trials -------------------------------------------------------------------------------------------------


def test_enqueued_architectures_are_learned_and_not_proposed_again() -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=SMALL, seed=0))
    study.enqueue_trial({"op": "b", "width": 3})
    study.enqueue_trial({"op": "a", "width": 1})
    waiting = study.ask()  # takes the first; the second waits
    assert small(waiting) == 3.1
    study.optimize(small, n_trials=14)
    assert distinct(study)
    assert len(study.trials) == 15


def test_a_waiting_architecture_is_taken() -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=SMALL, seed=0))
    trial = study.ask()
    study.enqueue_trial({"op": "a", "width": 1})
    assert small(trial) == 2.0


def test_partly_enqueued_trials_keep_the_rest_unrepeated() -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=SMALL, seed=0))
    for _ in range(6):
        study.enqueue_trial({"op": "b"})
    study.optimize(small, n_trials=6)
    assert [t.params["op"] for t in study.trials] == ["b"] * 6
    assert len(set(architectures(study))) == 5  # five widths; the sixth cannot differ
    study.optimize(small, n_trials=10)
    assert len(set(architectures(study))) == 15


@pytest.mark.filterwarnings("ignore:Fixed parameter", "ignore:no completed trial")
def test_an_enqueued_value_outside_the_space_is_used_and_not_learned() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, space=SMALL, seed=0))
    study.enqueue_trial({"width": 99})
    study.optimize(small, n_trials=4)
    assert study.trials[0].params["width"] == 99
    assert len(SEEN[-1]) == 2


def test_a_compact_enqueued_architecture_is_taken_as_it_is() -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=SMALL, compact=True, seed=0))
    study.enqueue_trial({"architecture": 0, "extra": 1})
    study.ask()
    assert study.ask(distributions(SMALL, compact=True)).params == {"architecture": 1}


# -- what is learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_each_kind_of_trial_becomes_its_row(direction: str) -> None:
    study = optuna.create_study(direction=direction, sampler=NasSampler(Recorder, space=SMALL, seed=0))
    results = iter([1.0, float("nan"), float("inf"), None, ValueError(), 2.0])

    def objective(trial: Any) -> float:
        small(trial)
        result = next(results)
        if result is None:
            trial.report(0.5, 1)
            raise optuna.TrialPruned
        if isinstance(result, ValueError):
            raise result
        return result

    study.optimize(objective, n_trials=6, catch=ValueError)
    study.ask(distributions(SMALL))
    sign = 1 if direction == "maximize" else -1
    h = SEEN[-1]
    assert h.status.tolist() == [Status.OK, Status.FAILED, Status.FAILED, Status.PRUNED, Status.FAILED, Status.OK]
    np.testing.assert_array_equal(h.values[:, 0], sign * np.array([1.0, np.nan, np.nan, 0.5, np.nan, 2.0]))
    assert SMALL.to_params(h.genotypes) == [t.params for t in study.trials[:6]]


def test_a_trial_pruned_before_its_first_report_has_no_hint() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, space=SMALL, seed=0))
    study.tell(study.ask(distributions(SMALL)), state=TrialState.PRUNED)
    study.ask(distributions(SMALL))
    assert SEEN[-1].status.tolist() == [Status.PRUNED]
    assert np.isnan(SEEN[-1].values).all()


def test_named_constraints_become_one_violation() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, space=SMALL, seed=0))
    if not hasattr(optuna.Trial, "set_constraint"):
        pytest.skip("named constraints came with Optuna 5")

    def objective(trial: Any) -> float:
        value = small(trial)
        if trial.number < 2:
            trial.set_constraint("latency", [-1.0, 2.0][trial.number])
            trial.set_constraint("memory", [-3.0, 0.5][trial.number])
        return value

    study.optimize(objective, n_trials=4)
    assert SEEN[-1].violation.tolist() == [0.0, 2.5, 0.0]


def test_constraints_func_is_stored_and_learned() -> None:
    sampler = NasSampler(
        Recorder, space=SMALL, seed=0, constraints_func=lambda trial: (trial.params["width"] - 3.0, -1.0)
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(small, n_trials=8)
    widths = np.array([t.params["width"] for t in study.trials[:7]])
    assert SEEN[-1].violation.tolist() == np.maximum(widths - 3.0, 0).tolist()
    assert study.best_trial.params["width"] <= 3


def test_before_optuna_5_trials_have_only_the_tuple(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = NasSampler(Recorder, space=SMALL, seed=0, constraints_func=lambda trial: (1.0, 2.0, -4.0))
    study = optuna.create_study(sampler=sampler)
    study.optimize(small, n_trials=2)
    for kind in optuna.trial.FrozenTrial.__mro__:
        if "constraints" in vars(kind):
            monkeypatch.delattr(kind, "constraints")
    fresh = optuna.create_study(sampler=NasSampler(Recorder, space=SMALL, seed=0))
    fresh.add_trials(study.trials)
    fresh.ask(distributions(SMALL))
    assert SEEN[-1].violation.tolist() == [3.0, 3.0]


def test_a_constraints_func_that_fails_is_an_error_and_leaves_it_unknown() -> None:
    sampler = NasSampler(Recorder, space=SMALL, seed=0, constraints_func=lambda trial: (float("nan"),))
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(InputError, match="returned NaN for trial 0"):
        study.optimize(small, n_trials=1)
    study.ask(distributions(SMALL))
    assert np.isnan(SEEN[-1].violation).all()


def test_objectives_are_turned_by_direction() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=NasSampler(Recorder, space=SMALL, seed=0))
    study.optimize(lambda trial: (small(trial), 10.0), n_trials=5)
    np.testing.assert_array_equal(SEEN[-1].values[:, 1], -10.0)
    assert (SEEN[-1].values[:, 0] > 0).all()
    assert SEEN[0].values.shape == (0, 2)


def test_too_many_objectives_are_refused_with_a_remedy() -> None:
    study = optuna.create_study(directions=["maximize"] * 2, sampler=NasSampler(Climb, space=SMALL))
    with pytest.raises(InputError, match="searches 1 objective and the study has 2"):
        study.ask(distributions(SMALL))


def test_running_proposals_of_other_workers_are_rows() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, space=SMALL, seed=0))
    trial = study.ask()
    trial.suggest_int("width", 1, 5)  # the operation is proposed and not suggested yet
    study.ask(distributions(SMALL))
    assert SEEN[-1].status.tolist() == [Status.RUNNING]
    assert SEEN[-1].genotypes[0, 1] == trial.params["width"] - 1


def test_hyperband_shows_brackets_and_the_sampler_sees_the_study() -> None:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    study = optuna.create_study(sampler=NasSampler(First, space=SMALL, seed=0), pruner=pruner)

    def objective(trial: Any) -> float:
        value = small(trial)
        for step in range(9):
            trial.report(value * step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study.optimize(objective, n_trials=15)
    assert distinct(study)
    assert len(study.trials) == 15


# -- spaces ----------------------------------------------------------------------------------------------------------


def test_conditional_parameters_do_not_exhaust_a_study() -> None:
    study = optuna.create_study(sampler=NasSampler(First, seed=0))

    def objective(trial: Any) -> float:
        if trial.suggest_categorical("kind", ["conv", "pool"]) == "conv":
            return trial.suggest_int("width", 1, 8)
        return trial.suggest_categorical("pool", [2, 4])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study.optimize(objective, n_trials=8)
    widths = [t.params["width"] for t in study.trials if "width" in t.params]
    assert len(set(widths)) == len(widths) > 1


def test_a_search_space_that_changes_is_no_error() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, seed=0))
    for high in (4, 9, 3, 9):
        study.optimize(lambda t, high=high: t.suggest_int("x", 0, high) + t.suggest_int("y", 0, 5), n_trials=5)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert SEEN[-1].space == ParameterSpace([Integer("y", 0, 5)])
    assert len(SEEN[-1]) == 19


def test_a_given_space_uses_only_trials_that_fit_it() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, space=SMALL, seed=0))
    wide = {"op": CategoricalDistribution(("a", "b", "c")), "width": IntDistribution(1, 50)}
    for width in (2, 40):
        study.add_trial(optuna.create_trial(params={"op": "a", "width": width}, distributions=wide, value=1.0))
    study.ask(distributions(SMALL))
    assert SMALL.to_params(SEEN[-1].genotypes) == [{"op": "a", "width": 2}]


def test_an_objective_of_other_parameters_is_told_so() -> None:
    study = optuna.create_study(sampler=NasSampler("random", space=CELLS, seed=0))
    study.optimize(small, n_trials=1)
    with pytest.warns(UserWarning, match="no completed trial has the parameters edge_0_1"):
        study.optimize(small, n_trials=1)


def test_distributions_may_be_given_as_the_space() -> None:
    study = optuna.create_study(sampler=NasSampler(First, space=distributions(SMALL)))
    study.optimize(small, n_trials=15)
    assert distinct(study)


def test_every_kind_of_parameter_survives_the_round_trip() -> None:
    space = ParameterSpace(
        [
            Categorical("c", (None, True, 1, 1.5, "x")),
            Integer("i", -4, 4, step=2),
            Integer("l", 1, 1000, log=True),
            Float("f", -1.0, 1.0),
            Float("g", 1e-5, 1.0, log=True),
            Float("s", 0.0, 1.0, step=0.1),
        ]
    )
    study = optuna.create_study(sampler=NasSampler(Recorder, space=space, seed=0))
    for number in range(20):
        study.tell(study.ask(distributions(space)), number)
    np.testing.assert_array_equal(SEEN[-1].genotypes, space.from_params([t.params for t in study.trials[:-1]]))
    proposed = [json.loads(t.system_attrs[storage.PROPOSAL]) for t in study.trials]
    assert proposed == [t.params for t in study.trials]


def test_ranges_too_fine_for_codes_are_sampled_independently() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, seed=0))
    study.optimize(lambda t: t.suggest_float("x", 1.0, 1.0 + 1e-12) + t.suggest_int("y", 1, 9), n_trials=4)
    assert SEEN[-1].space.n_sites == 1
    assert len({t.params["x"] for t in study.trials}) > 1


def test_compact_studies_write_one_integer() -> None:
    study = optuna.create_study(sampler=NasSampler(Recorder, space="nasbench201", compact=True, seed=0))
    study.optimize(lambda t: -t.suggest_int("architecture", 0, CELLS.size - 1), n_trials=6)
    rows = [t.params["architecture"] for t in study.trials]
    np.testing.assert_array_equal(SEEN[-1].genotypes, CELLS.all()[rows[:-1]])
    assert len(set(rows)) == 6


def test_a_partial_fixed_sampler_leaves_the_other_parameters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fixed = optuna.samplers.PartialFixedSampler({"op": "b"}, NasSampler(Recorder, space=SMALL, seed=0))
    study = optuna.create_study(sampler=fixed)
    study.optimize(small, n_trials=5)
    assert {t.params["op"] for t in study.trials} == {"b"}
    assert len({t.params["width"] for t in study.trials}) == 5


def test_one_sampler_may_serve_two_studies() -> None:
    sampler = NasSampler(Climb, space=CELLS, seed=0)
    first, second = (optuna.create_study(sampler=sampler) for _ in range(2))
    for study in (first, second, first, second):
        study.optimize(cell, n_trials=5)
    assert architectures(first) == architectures(second)


# -- arguments -------------------------------------------------------------------------------------------------------


def test_strategy_may_be_text_class_or_object() -> None:
    runs = []
    for sampler in (
        NasSampler("random", space=CELLS, seed=0),
        NasSampler(RandomSearch, space=CELLS, seed=0),
        NasSampler(RandomSearch(space=CELLS), seed=0),
    ):
        study = optuna.create_study(sampler=sampler)
        study.optimize(cell, n_trials=3)
        runs.append(architectures(study))
    assert runs[0] == runs[1] == runs[2]
    assert repr(sampler).startswith("NasSampler(RandomSearch(")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strategy": "randon"}, UnknownNameError, "did you mean random"),
        ({"strategy": "random:speed=3"}, UnknownNameError, "unknown option"),
        ({"strategy": 3}, InputError, "must be a name"),
        ({"strategy": RandomSearch(space=CELLS), "space": CELLS}, InputError, "has a space already"),
        ({"strategy": "random", "space": "nasbench2001"}, UnknownNameError, "did you mean nasbench201"),
        ({"strategy": "random", "seed": -1}, InputError, "at least 0"),
        ({"strategy": "random", "seed": 0.5}, InputError, "at least 0"),
        ({"strategy": "random", "compact": True}, InputError, "needs space="),
        ({"strategy": "random", "space": {"x": FloatDistribution(1, 1)}}, InputError, "no parameter with more"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        NasSampler(**arguments)


def test_a_strategy_that_fails_is_heard() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Broken(Strategy):
        def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
            raise ZeroDivisionError("inside")

    study = optuna.create_study(sampler=NasSampler(Broken, space=SMALL, seed=0))
    with pytest.raises(ZeroDivisionError, match="inside"):
        study.optimize(small, n_trials=1)


@pytest.mark.parametrize("strategy", ["dnal", "eas:steps=3", "single-path"])
def test_a_strategy_with_spaces_of_its_own_asks_for_one(strategy: str) -> None:
    name = strategy.partition(":")[0]
    with pytest.raises(InputError, match=rf"{name} searches spaces of its own; give space= one of them: \w+"):
        NasSampler(strategy)

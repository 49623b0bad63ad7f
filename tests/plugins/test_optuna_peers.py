"""Optuna's samplers as strategies: what they propose is Optuna's own, unseen, and repeatable."""

import pickle
import warnings
from typing import Any

import numpy as np
import optuna
import pytest

from nasplug.errors import MissingDependencyError, UnknownNameError
from nasplug.plugins.optuna import distributions
from nasplug.plugins.optuna.peers import OptunaPeer
from nasplug.registry import configure
from nasplug.spaces import Categorical, EnumeratedSpace, Genotypes, Integer, NASBench201, ParameterSpace
from nasplug.strategies import History, Status, trial_rng

CELLS = NASBench201()
SMALL = ParameterSpace([Categorical("op", ("a", "b", "c")), Integer("width", 1, 5)])
TARGET = np.array([3, 1, 4, 1, 2, 3])


def run(peer: OptunaPeer, n: int, m: int = 1, seed: int = 0) -> History:
    history = History.empty(peer.space, m)
    for number in range(n):
        g = peer.propose(history, 1, trial_rng(seed, number))
        score = (g == TARGET[: g.shape[1]]).sum(axis=1).astype(float)
        history = history.extended(g, score if m == 1 else np.stack([score, -g.sum(axis=1)], axis=1))
    return history


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_proposals_are_unseen_and_repeatable(sampler: Any) -> None:
    first, again, other = (run(OptunaPeer(space=CELLS, sampler=sampler), 40, seed=s) for s in (0, 0, 1))
    assert len(set(first.keys.tolist())) == 40
    assert first.keys.tolist() == again.keys.tolist() != other.keys.tolist()


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_several_objectives(sampler: Any) -> None:
    assert len(set(run(OptunaPeer(space=CELLS, sampler=sampler), 60, m=2).keys.tolist())) == 60


def test_gp_runs_where_torch_is() -> None:
    pytest.importorskip("torch")
    assert len(run(OptunaPeer(space=CELLS, sampler="gp"), 12)) == 12


def test_tpe_proposes_what_plain_optuna_does() -> None:
    """The same sampler, told the same values, asks for the same: the wrapper adds nothing of its own."""
    peer = run(OptunaPeer(space=CELLS, sampler="tpe"), 50)
    seed = int(trial_rng(0, 0).integers(2**31))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    seen: dict[int, None] = {}
    while len(seen) < 50:
        trial = study.ask(distributions(CELLS))
        g = CELLS.from_params([trial.params])
        study.tell(trial, float((g == TARGET).sum()))
        seen.setdefault(int(CELLS.keys(g)[0]))
    assert list(seen) == peer.keys.tolist()


def test_the_whole_space_is_found_and_no_more() -> None:
    history = run(OptunaPeer(space=SMALL, sampler="tpe"), 15)
    assert len(set(history.keys.tolist())) == 15


def test_batches_running_failed_and_constrained_rows() -> None:
    peer = OptunaPeer(space=CELLS)
    empty = History.empty(CELLS)
    batch = peer.propose(empty, 4, trial_rng(0, 0))
    assert len(np.unique(CELLS.keys(batch))) == 4
    running = empty.extended(batch, np.full(4, np.nan), Status.RUNNING)
    more = peer.propose(running, 2, trial_rng(0, 1))
    assert not np.isin(CELLS.keys(more), running.keys).any()
    told = empty.extended(batch[:2], [1.0, 2.0], violation=np.array([0.0, 3.0]))
    told = told.extended(batch[2:], [np.nan, np.nan], Status.FAILED)
    mirror = peer._mirrors[0]
    assert mirror.continues(told)
    peer.propose(told, 1, trial_rng(0, 2))
    assert peer._mirrors[0] is mirror
    states = [t.state.name for t in mirror.optimizer.study.trials]
    assert states[:4] == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    if hasattr(optuna.trial.FrozenTrial, "constraints"):
        assert mirror.optimizer.study.trials[1].constraints == {"violation": 3.0}


def test_a_history_that_does_not_continue_is_told_anew() -> None:
    peer = OptunaPeer(space=CELLS)
    history = run(peer, 10)
    mirror = peer._mirrors[0]
    other = History(CELLS, history.genotypes[:8], -history.values[:8], history.status[:8], history.violation[:8])
    assert not mirror.continues(other)
    peer.propose(other, 1, trial_rng(0, 10))
    assert peer._mirrors[0] is not mirror
    assert len([t for t in peer._mirrors[0].optimizer.study.trials if t.state.is_finished()]) == 8


def test_pickles_without_its_study_and_equals_its_copy() -> None:
    peer = OptunaPeer(space=CELLS, sampler="nsga2")
    run(peer, 3)
    copy = pickle.loads(pickle.dumps(peer))
    assert copy == peer
    assert copy._mirrors == []


class Diagonal(EnumeratedSpace):
    """Pairs of equal codes; any pair stands for that of its first code."""

    def __init__(self) -> None:
        super().__init__("diagonal", [Categorical("a", (0, 1, 2, 3)), Categorical("b", (0, 1, 2, 3))])

    def _enumerate(self) -> Genotypes:
        return np.repeat(np.arange(4)[:, None], 2, axis=1)

    def repair(self, genotypes: Genotypes) -> Genotypes:
        return np.repeat(genotypes[:, :1], 2, axis=1)


def test_listed_spaces_take_the_representative() -> None:
    history = run(OptunaPeer(space=Diagonal(), sampler="random"), 4)
    assert (history.genotypes[:, 0] == history.genotypes[:, 1]).all()


def test_registered_under_its_short_names() -> None:
    assert configure("strategy", "optuna:nsga2", CELLS) == OptunaPeer(space=CELLS, sampler="nsga2")
    with pytest.raises(UnknownNameError, match="did you mean tpe"):
        configure("strategy", "optuna:tpee", CELLS)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(seed: int) -> None:
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(optuna.samplers, "GPSampler", missing)
    with pytest.raises(MissingDependencyError, match="optuna:gp needs a package"):
        OptunaPeer(space=CELLS, sampler="gp").propose(History.empty(CELLS), 1, trial_rng(0, 0))


def test_nothing_is_printed_and_settings_stay(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(OptunaPeer(space=SMALL), 3)
    assert optuna.logging.get_verbosity() == before
    assert "study" not in capfd.readouterr().err


# -- pruners ---------------------------------------------------------------------------------------------------------

STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9)


def curve(g: np.ndarray) -> np.ndarray:
    """A learning curve: fast ones are not always the best."""
    matches = (g == TARGET).sum()
    return matches * (1 - 0.7 ** (np.array(STEPS) * (1 + 0.1 * g[0])))


def trained(peer: OptunaPeer, n: int, seed: int = 0) -> History:
    """What a comparison does: look at every step but the last."""
    history = History.empty(peer.space, fidelities=STEPS)
    for number in range(n):
        g = peer.propose(history, 1, trial_rng(seed, number))
        whole, status = curve(g[0]), Status.OK
        for k in range(len(STEPS)):
            seen = np.where(np.arange(len(STEPS)) <= k, whole, np.nan)[None]
            if k < len(STEPS) - 1:
                running = history.extended(g, [np.nan], Status.RUNNING, curves=seen)
                if peer.stops(running, len(history)):
                    status = Status.PRUNED
                    break
        history = history.extended(g, [whole[k]], status, curves=seen)
    return history


PRUNED = {
    "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9),
    "successive-halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1),
    "median": lambda: optuna.pruners.MedianPruner(),
}


@pytest.mark.parametrize("pruner", PRUNED)
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_pruners_decide_what_plain_optuna_does(sampler: Any, pruner: str) -> None:
    """The same sampler and pruner, in a study as its documentation shows it, try the same and stop where it does."""
    peer = OptunaPeer(space=CELLS, sampler=f"{sampler}+{pruner}")  # type: ignore[arg-type]
    assert peer.stops_early
    assert not OptunaPeer(space=CELLS, sampler=sampler).stops_early
    history = trained(peer, 60)
    assert {Status.OK, Status.PRUNED} == set(history.status.tolist())
    seed = int(trial_rng(0, 0).integers(2**31))
    made = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler](seed=seed)
    study = optuna.create_study(study_name=f"seed {seed}", direction="maximize", sampler=made, pruner=PRUNED[pruner]())
    seen: dict[int, list[float]] = {}
    while len(seen) < 60:
        trial = study.ask(distributions(CELLS))
        g = CELLS.from_params([trial.params])
        key = int(CELLS.keys(g)[0])
        values = seen.get(key, curve(g[0]).tolist())  # of one seen before: as far as it was trained
        state = optuna.trial.TrialState.COMPLETE if len(values) == len(STEPS) else optuna.trial.TrialState.PRUNED
        for k, value in enumerate(values):
            trial.report(value, step=STEPS[k])
            if trial.should_prune() and key not in seen and k < len(STEPS) - 1:
                state, values = optuna.trial.TrialState.PRUNED, values[: k + 1]
                break
        study.tell(trial, None if state == optuna.trial.TrialState.PRUNED else values[-1], state=state)
        seen.setdefault(key, values)
    assert list(seen) == history.keys.tolist()
    assert [len(values) for values in seen.values()] == (~np.isnan(history.curves)).sum(axis=1).tolist()


def test_pruning_is_repeatable_and_differs_by_seed() -> None:
    first, again, other = (trained(OptunaPeer(space=CELLS, sampler="tpe+hyperband"), 30, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.curves, again.curves)
    assert first.keys.tolist() == again.keys.tolist() != other.keys.tolist()


def test_a_history_of_others_is_told_with_its_curves() -> None:
    history = trained(OptunaPeer(space=CELLS, sampler="random+hyperband"), 30)
    peer = OptunaPeer(space=CELLS, sampler="tpe+successive-halving")
    g = peer.propose(history, 1, trial_rng(1, 30))
    trials = peer._mirrors[0].optimizer.study.trials
    for trial, status, known in zip(trials[:30], history.status, history.curves, strict=True):
        assert trial.state.name == ("COMPLETE" if status == Status.OK else "PRUNED")
        assert list(trial.intermediate_values.values()) == known[~np.isnan(known)].tolist()
    assert any("completed_rung_0" in trial.system_attrs for trial in trials)  # the pruner knows whom to compare with
    worst = np.where(np.arange(len(STEPS)) < 1, -1.0, np.nan)[None]
    assert peer.stops(history.extended(g, [np.nan], Status.RUNNING, curves=worst), len(history))


def test_what_a_pruner_never_proposed_is_trained_to_the_end() -> None:
    peer = OptunaPeer(space=CELLS, sampler="tpe+median")
    history = trained(peer, 20)
    stranger = history.extended(np.array([[0] * 6]), [np.nan], Status.RUNNING, curves=np.full((1, 9), -1.0))
    assert not peer.stops(stranger, 20)
    assert not OptunaPeer(space=CELLS, sampler="tpe+median").stops(stranger, 20)


def test_without_fidelities_a_pruner_has_nothing_to_say() -> None:
    first, plain = (run(OptunaPeer(space=CELLS, sampler=s), 15) for s in ("tpe+hyperband", "tpe"))
    assert first.keys.tolist() == plain.keys.tolist()

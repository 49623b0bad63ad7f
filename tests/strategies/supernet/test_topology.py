"""Selection on the DARTS spaces, from operations to the two inputs that every node keeps."""

import itertools

import numpy as np
import pytest
import torch

from nasplug import registry
from nasplug.spaces import DARTS, DARTSS1, DARTSS2, DARTSS3, DARTSS4
from nasplug.spaces.modules.supernets import supernet
from nasplug.strategies import History, trial_rng
from nasplug.strategies.supernet import weight_sharing
from nasplug.strategies.supernet.differentiable import Differentiable, Selecting
from nasplug.strategies.supernet.mixture import Recipe


def tiny(space, seed=0):
    return supernet(space, classes=10, in_channels=1, seed=seed, channels=2, layers=3)


def method(net, data, seed=0, **selecting):
    """One epoch of training, then decisions with one epoch between two."""
    return Differentiable(net, data, Recipe(1), seed, selecting=Selecting(interval=1, **selecting))


def untrained(net, data, worth, seed=0, **selecting):
    """The same without training, which is not what is tested, and with a worth of mixtures of one's own."""
    made = method(net, data, seed, **selecting)
    made.training.epoch = lambda *_, **__: {}
    made.evaluate = made._judge = worth
    return made


def finished(made):
    return [made.advance() for _ in range(made.stages)]


def planted(net, target):
    """What a mixture is worth: the weight on the operations of one architecture, edges it does not have counting none.

    Its accuracy moves in steps, as accuracies do, so that many removals are told apart by the loss alone.
    """
    (chosen,) = net.decisions(target[None])
    rows = np.flatnonzero(chosen >= 0)
    others = torch.from_numpy(np.flatnonzero(chosen < 0))

    def evaluate(mixture):
        weight = float(mixture[rows, chosen[rows]].sum()) - 0.01 * float(mixture[others].sum())
        return round((10 + weight) / 4) / 8, 2.0 - weight / 16

    return evaluate


@pytest.mark.parametrize("space", [DARTS(), DARTSS1(), DARTSS3()], ids=lambda space: space.name)
def test_a_planted_architecture_is_recovered_for_every_order_of_edges_and_nodes(space, data):
    net = tiny(space)
    targets = space.sample(6, np.random.default_rng(0))
    for seed, (target, nodes) in enumerate(zip(targets, itertools.permutations(net.nodes), strict=True)):
        made = untrained(net, data, planted(net, target), seed)  # which draws an order of edges of its own
        made._nodes = list(nodes)
        last = finished(made)[-1]
        np.testing.assert_array_equal(last.ranking[0], target)
        assert space.valid(last.ranking).all()
        assert len(np.unique(last.ranking, axis=0)) == len(last.ranking) > 20


def test_orders_differ_between_seeds_and_hold_every_step_once(data):
    net = tiny(DARTSS2())
    orders = [(tuple(made._steps), tuple(made._nodes)) for made in (method(net, data, seed) for seed in range(20))]
    assert len({steps for steps, _ in orders}) > 10
    assert len({nodes for _, nodes in orders}) > 3
    for steps, nodes in orders:
        assert sorted(steps) == sorted(net.steps)
        assert sorted(nodes) == sorted(net.nodes)


@pytest.mark.parametrize(("as_published", "stay"), [(False, 1), (True, 0)])
def test_of_two_edges_that_can_stand_in_for_each_other_one_stays(data, as_published, stay):
    """Taken out alone neither is missed; once one is gone the other is. The published code takes both out."""
    net = tiny(DARTSS2())
    twins, third = (9, 12), 11  # into the last node of the normal cell

    def evaluate(mixture):
        there = mixture.sum(dim=1)
        worth = float(torch.maximum(there[twins[0]], there[twins[1]])) + 0.5 * float(there[third])
        worth += 0.1 * float(there[[10, 13]].sum())
        return worth / 2, 1 - worth / 2

    made = untrained(net, data, evaluate, as_published=as_published)
    finished(made)
    kept = made.training.decisions.kept
    assert kept[third]
    assert int(kept[list(twins)].sum()) == stay
    assert int(kept[9:14].sum()) == 2


def test_a_whole_run_on_a_space_with_noise(data, tmp_path):
    """It tells what it removed, its tuning slows down, and it goes on bit for bit from a checkpoint among its nodes."""
    made = method(tiny(DARTSS4()), data, rate=0.0025, final_rate=0.001)
    rates, epoch = [], made.training.epoch

    def recorded(phase, number, *, rate):
        rates.append(rate)
        return epoch(phase, number, rate=rate)

    made.training.epoch = recorded
    assert made.stages == 1 + 14 + 3
    selections = [made.advance() for _ in range(16)]
    torch.save(made.state(), tmp_path / "state.pt")
    selections += [made.advance() for _ in range(2)]

    removals = [one.facts["removals"] for one in selections[1:]]
    assert [len(told) for told in removals[:14]] == [2] * 14
    decided = [told["decision"] for both in removals[:14] for told in both]
    assert sorted(decided) == list(range(28))
    assert all(second == first + 14 for first, second in zip(decided[::2], decided[1::2], strict=True))
    dropped = [[told["dropped"] for told in node] for node in removals[14:]]
    assert sorted(len(node) for node in dropped) == [2, 4, 6]
    assert not made.training.decisions.kept[[edge for node in dropped for edge in node]].any()
    assert int(made.training.decisions.kept.sum()) == 16

    assert rates[0] == 0.025
    assert rates[1] == pytest.approx(0.0025)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    assert 0.001 < rates[-1] < 0.00102
    assert len(rates) == 1 + 16

    resumed = method(tiny(DARTSS4(), seed=7), data, rate=0.0025, final_rate=0.001)  # other weights, other noise
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for selection in selections[16:]:
        again = resumed.advance()
        assert again.facts == selection.facts
        np.testing.assert_array_equal(again.ranking, selection.ranking)
    states = [one.training.net.state_dict() for one in (made, resumed)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_as_published_no_decision_comes_early_where_edges_are_dropped_afterwards(data):
    net = tiny(DARTSS2())
    made = untrained(net, data, lambda mixture: (0.5, 0.5), as_published=True)
    epochs = []
    made.training.epoch = lambda *args, **_: epochs.append(args) or {}
    selections = finished(made)
    assert sorted(told["decision"] for one in selections[1:15] for told in one.facts["removals"]) == list(range(28))
    assert epochs[1:] == [(turn, 0) for turn in range(1, 17)]


def test_none_is_mixed_in_and_never_selected(data):
    net = tiny(DARTSS3())

    def evaluate(mixture):  # nothing is missed as much as none
        return float(mixture[:, 0].sum()) / 28, 0.0

    made = untrained(net, data, evaluate)
    assert made.training.mixture().shape == (28, 3)
    finished(made)
    assert (made.training.decisions.chosen > 0).all()


@pytest.mark.parametrize(
    ("spec", "stages"),
    [
        ("darts:images=few,epochs=2", 2),
        ("darts-pt:images=few,epochs=1", 1 + 14 + 3),
        ("darts-pt-fixed-alpha:images=few,epochs=1", 1 + 14 + 3),
        ("spos:images=few,epochs=2,population=4,generations=2", 4),
    ],
)
def test_strategies_take_all_spaces_of_the_family(spec, stages, few, monkeypatch):
    sizes = {name: {"channels": 2, "layers": 3} for name in weight_sharing._SMALL}
    monkeypatch.setattr(weight_sharing, "_SMALL", sizes)
    for space in (DARTS(), DARTSS1(), DARTSS2(), DARTSS3(), DARTSS4()):
        strategy = registry.configure("strategy", spec, space)
        assert strategy._stages(few) == stages
        assert registry.configure("strategy", spec.split(":")[0] + ":networks=full", space).epochs_on(few) == 50
    assert strategy._method(few, 0).stages == stages
    if spec.startswith(("darts:", "spos:")):
        history = History.empty(space)
        for number in range(3):
            history = history.extended(strategy.propose(history, 1, trial_rng(0, number)), np.zeros(1))
        assert len(np.unique(history.keys)) == 3

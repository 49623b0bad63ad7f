"""Selectors need no network: what a mixture is worth may be any function."""

import itertools

import numpy as np
import pytest
import torch

from nasplug.errors import InputError, UnknownNameError
from nasplug.strategies.supernet.mixture import Decisions
from nasplug.strategies.supernet.selectors import Perturbation, magnitude, strongest_inputs

EVERYTHING = np.ones((6, 5), dtype=bool)


def planted(target):
    """What a mixture is worth: the share of weight on the planted operations, saturating as accuracies do."""

    def evaluate(mixture):
        weight = float(mixture[torch.arange(len(target)), torch.tensor(target)].sum())
        return min(1.0, 0.2 + 0.7 * weight / len(target)), 2.0 - weight / len(target)

    return evaluate


def test_a_planted_cell_is_recovered_for_every_order_of_edges():
    target = [3, 1, 4, 0, 2, 3]
    evaluate = planted(target)
    for order in itertools.permutations(range(6)):
        decisions = Decisions(6)
        for decision in order:
            mixture = decisions.applied(torch.full((6, 5), 0.2))
            removals = Perturbation().operation(evaluate, mixture, decision, EVERYTHING[decision])
            decisions.chosen[decision] = removals.chosen
        assert decisions.chosen.tolist() == target


@pytest.mark.parametrize("criterion", ["accuracy", "loss"])
def test_removals_tell_what_was_measured(criterion):
    removals = Perturbation(criterion).operation(planted([2]), torch.full((1, 5), 0.2), 0, EVERYTHING[0])
    assert removals.parts == (0, 1, 2, 3, 4)
    assert removals.chosen == 2
    assert removals.accuracy[2] < min(removals.accuracy[k] for k in (0, 1, 3, 4))
    assert removals.loss[2] == max(removals.loss)


def test_equal_accuracies_are_told_apart_by_the_loss_and_not_by_order():
    def evaluate(mixture):
        return 0.5, float(-mixture @ torch.tensor([1.0, 2.0, 5.0, 3.0, 4.0]))

    removals = Perturbation().operation(lambda m: evaluate(m[0]), torch.full((1, 5), 0.2), 0, EVERYTHING[0])
    assert removals.chosen == 2


def test_what_is_not_selectable_is_not_tried():
    allowed = np.array([False, True, True, False, True])
    removals = Perturbation().operation(planted([0]), torch.full((1, 5), 0.2), 0, allowed)
    assert removals.parts == (1, 2, 4)
    with pytest.raises(InputError, match="no operation to select"):
        Perturbation().operation(planted([0]), torch.full((1, 5), 0.2), 0, ~EVERYTHING[0])


def test_without_renormalising_a_large_weight_is_missed_and_with_it_is_not():
    mixture = torch.tensor([[0.8, 0.05, 0.05, 0.05, 0.05]])

    def total(m):  # every operation is as good; only how much of them there is counts
        return float(m.sum()), 0.0

    assert Perturbation().operation(total, mixture, 0, EVERYTHING[0]).chosen == 0
    scaled = Perturbation(renormalise=True).operation(total, mixture, 0, EVERYTHING[0])
    np.testing.assert_allclose(scaled.accuracy, 1.0, atol=1e-6)


def test_edges_are_ordered_by_how_much_they_are_missed():
    def evaluate(mixture):
        return float(mixture.sum(dim=1) @ torch.tensor([0.1, 0.4, 0.2])), 0.0

    rule = Perturbation()
    removals = rule.edge(evaluate, torch.full((3, 2), 0.5), [0, 1, 2])
    assert removals.chosen == 1
    assert rule.order(removals) == [1, 2, 0]


def test_magnitude_takes_the_largest_selectable_weight():
    mixture = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    assert magnitude(mixture, np.ones((2, 3), bool)).tolist() == [0, 2]
    assert magnitude(mixture, np.array([[False, True, True]] * 2)).tolist() == [1, 2]


def test_strongest_inputs_by_their_best_selectable_operation():
    mixture = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]])
    assert strongest_inputs(mixture, np.ones((4, 2), bool), [1, 2, 3], 2) == [1, 2]
    assert strongest_inputs(mixture, np.array([[False, True]] * 4), [0, 1, 2, 3], 2) == [1, 2]


def test_another_criterion_is_refused():
    with pytest.raises(UnknownNameError, match="criterion 'speed'"):
        Perturbation("speed")  # type: ignore[arg-type]

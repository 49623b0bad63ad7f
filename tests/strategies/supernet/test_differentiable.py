"""The stages of DARTS and DARTS-PT, on a supernet that trains in a moment."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nasplug.errors import InputError
from nasplug.strategies.supernet.differentiable import Differentiable, Selecting
from nasplug.strategies.supernet.mixture import Recipe
from nasplug.strategies.supernet.selectors import Perturbation

RECIPE = Recipe(epochs=2)


def run(method: Differentiable) -> list:
    return [method.advance() for _ in range(method.stages)]


@pytest.mark.parametrize("interval", [1, 2])
def test_every_edge_is_decided_once_after_a_whole_interval(small, data, interval, monkeypatch):
    method = Differentiable(small(), data, RECIPE, 0, selecting=Selecting(interval=interval))
    epochs: list[int] = []
    train = method.training.epoch
    monkeypatch.setattr(method.training, "epoch", lambda *a, **k: epochs.append(a[0]) or train(*a, **k))
    selections = run(method)
    assert len(selections) == 2 + 6
    decided = [step["decision"] for one in selections for step in one.facts.get("removals", [])]
    assert sorted(decided) == [0, 1, 2, 3, 4, 5]
    assert epochs == [0, 0] + [turn for turn in range(1, 6) for _ in range(interval)]
    assert (method.training.decisions.chosen >= 0).all()
    assert selections[-1].ranking[0].tolist() == method.training.decisions.chosen.tolist()


def test_the_order_of_decisions_depends_on_the_seed(small, data):
    orders = [tuple(Differentiable(small(), data, RECIPE, seed, selecting=Selecting())._steps) for seed in range(6)]
    assert len(set(orders)) > 3


def test_as_published_the_last_edge_is_decided_early_and_with_interval_one_by_magnitude(small, data, monkeypatch):
    for interval, decisions, epochs in ((1, 5, 4), (3, 6, 4 * 3 + 2)):
        method = Differentiable(
            small(), data, RECIPE, 0, selecting=Selecting(interval=interval, as_published=True), learn_logits=False
        )
        tuned: list[int] = []
        train = method.training.epoch
        monkeypatch.setattr(method.training, "epoch", lambda *a, t=train, o=tuned, **k: o.append(a[0]) or t(*a, **k))
        selections = run(method)
        decided = [step["decision"] for one in selections for step in one.facts.get("removals", [])]
        assert len(decided) == decisions
        assert len([phase for phase in tuned if phase > 0]) == epochs
        left = [edge for edge in range(6) if edge not in decided]
        logits = method.training.logits.numpy()
        assert 0 < np.abs(logits).max() < 0.01  # fixed, at a small draw
        for edge in left:
            assert selections[-1].ranking[0][edge] == logits[edge].argmax()


def test_removing_none_is_worth_what_nothing_removed_is(small, data):
    method = Differentiable(small(), data, RECIPE, 0, selecting=Selecting())
    for _ in range(2):
        before = method.advance()
    step = method.advance().facts["removals"][0]
    assert step["loss"][0] == before.facts["valid_loss"]
    assert step["accuracy"][0] == before.facts["valid"]


def test_as_published_it_is_judged_on_new_batches_every_time(small, data):
    rule = Perturbation("accuracy", ties="order")
    method = Differentiable(
        small(), replace(data, crop=1), RECIPE, 0, selecting=Selecting(rule, as_published=True), learn_logits=False
    )
    for _ in range(3):
        method.advance()
    mixture = method.training.mixture().detach()
    assert method._judge(mixture) != method._judge(mixture)
    assert method.evaluate(mixture) == method.evaluate(mixture)


def test_as_published_a_restored_run_judges_as_one_that_was_never_interrupted(small, data):
    def made() -> Differentiable:
        rule = Perturbation("accuracy", ties="order")
        selecting = Selecting(rule, interval=1, as_published=True)
        return Differentiable(small(), replace(data, crop=1), RECIPE, 0, selecting=selecting, learn_logits=False)

    whole = made()
    expected = [one.facts["removals"] for one in run(whole)[2:]]
    first = made()
    for _ in range(4):
        first.advance()
    second = made()
    second.restore(first.state())
    assert [second.advance().facts["removals"] for _ in range(second.stages - 4)] == expected[2:]


def test_with_fixed_logits_only_the_last_stage_selects(small, data):
    fixed = run(Differentiable(small(), data, RECIPE, 0, selecting=Selecting(interval=1), learn_logits=False))
    assert [len(one.ranking) > 0 for one in fixed] == [False] * 7 + [True]
    learnt = run(Differentiable(small(), data, RECIPE, 0, selecting=Selecting(interval=1)))
    assert all(len(one.ranking) for one in learnt)


def test_the_last_ranking_begins_with_the_selection_and_goes_on_by_what_was_missed(small, data):
    method = Differentiable(small(), data, RECIPE, 0, selecting=Selecting(interval=1))
    ranking = run(method)[-1].ranking
    assert len(np.unique(ranking, axis=0)) == len(ranking) == 1000
    total = method._scores[np.arange(6), ranking].sum(axis=1)
    assert (np.diff(total[1:]) <= 1e-12).all()


def test_magnitude_follows_the_logits(small, data):
    method = Differentiable(small(), data, Recipe(epochs=1, logit_rate=1e-9), 0)
    with torch.no_grad():
        method.training.logits.zero_()
        method.training.logits[torch.arange(6), torch.tensor([4, 3, 2, 1, 0, 3])] = 2.0
    assert method.advance().ranking[0].tolist() == [4, 3, 2, 1, 0, 3]


@pytest.mark.parametrize("wrong", [{"interval": 0}, {"rate": 0.0}, {"final_rate": 1.0}])
def test_selections_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match="interval of at least 1 epoch, a rate above 0"):
        Selecting(**wrong)

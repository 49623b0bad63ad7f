import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nasplug.errors import InputError, TrainingError
from nasplug.strategies.supernet.mixture import Decisions, MixtureTraining, Recipe


def test_decided_rows_are_one_hot_dropped_rows_are_zero_and_neither_has_a_gradient():
    decisions = Decisions(3)
    decisions.chosen[1], decisions.kept[2] = 3, False
    logits = torch.zeros(3, 5, requires_grad=True)
    mixture = decisions.applied(torch.softmax(logits, dim=1))
    assert mixture.tolist() == [[pytest.approx(0.2)] * 5, [0, 0, 0, 1, 0], [0] * 5]
    (mixture * torch.arange(15.0).view(3, 5)).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1:].abs().sum() == 0


def test_an_epoch_is_what_a_plain_loop_over_the_same_batches_does(small, data):
    recipe = Recipe(epochs=4)
    training = MixtureTraining(small(), data, recipe, seed=5, learn_logits=False)
    facts = training.epoch(0, 1, rate=recipe.rate_at(1, 4))

    net = small()
    optimizer = torch.optim.SGD(net.parameters(), lr=recipe.rate_at(1, 4), momentum=0.9, weight_decay=3e-4)
    losses = []
    for images, labels in data.weights.batches(64, [5, 1, 0, 1]):
        loss = F.cross_entropy(net(images, torch.full((6, 5), 0.2)), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss))
    assert facts["train_loss"] == pytest.approx(np.mean(losses))
    for ours, plain in zip(training.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)


def test_logits_learn_from_the_selection_half_and_fixed_ones_stay_zero(small, data):
    learning = MixtureTraining(small(), data, Recipe(epochs=2, logit_rate=0.1), seed=0)
    before = learning.logits.detach().clone()
    assert 0 < before.abs().max() < 0.01
    learning.epoch(0, 0)
    assert (learning.logits - before).abs().max() > 0.05
    fixed = MixtureTraining(small(), data, Recipe(epochs=2, logit_rate=0.1), seed=0, learn_logits=False)
    fixed.epoch(0, 0)
    assert fixed.logits.abs().sum() == 0


def test_a_logit_step_leaves_the_weights_alone(small, data):
    training = MixtureTraining(small(), data, Recipe(epochs=2), seed=0)
    kept = [weight.detach().clone() for weight in training.net.parameters()]
    training._step_logits(*next(iter(data.selection.batches(32, [0]))))
    assert all(torch.equal(a, b) for a, b in zip(kept, training.net.parameters(), strict=True))


def test_training_does_not_move_what_is_decided(small, data):
    training = MixtureTraining(small(), data, Recipe(epochs=2, logit_rate=1.0, logit_decay=0.5), seed=0)
    training.decisions.chosen[2] = 4
    for epoch in range(2):
        training.epoch(1, epoch)
    assert training.mixture()[2].tolist() == [0, 0, 0, 0, 1]


def test_the_cosine_goes_from_the_first_rate_to_the_final_one():
    recipe = Recipe(epochs=10, learning_rate=0.1, final_rate=0.02)
    assert recipe.rate_at(0, 10) == 0.1
    assert recipe.rate_at(5, 10) == pytest.approx(0.06)
    assert recipe.rate_at(10, 10) == pytest.approx(0.02)


def test_a_loss_that_is_no_number_stops_with_the_epoch(small, data):
    training = MixtureTraining(small(), data, Recipe(epochs=9), seed=0)
    training.epoch(0, 0)
    with torch.no_grad():
        next(training.net.parameters())[0] = math.nan
    with pytest.raises(TrainingError, match="became nan in epoch 2"):
        training.epoch(0, 1)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"final_rate": 1.0}, {"clip": 0.0},
     {"learning_rate": math.nan}],
)  # fmt: skip
def test_recipes_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected a learning rate|trains for at least 1 epoch"):
        Recipe(**({"epochs": 2} | wrong))

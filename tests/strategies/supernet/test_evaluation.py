import pytest
import torch
from torch import nn

from nasplug.errors import InputError
from nasplug.strategies.supernet.data import Part
from nasplug.strategies.supernet.evaluation import (
    batch_statistics,
    evaluator,
    recalibrated,
    require_masks,
)

UNIFORM = torch.full((6, 5), 0.2)


class Foreign(nn.Module):
    """Somebody else's supernet: running statistics, dropout, one decision between a wide and a narrow branch."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(64)
        self.drop = nn.Dropout(0.5)
        self.branches = nn.ModuleList(nn.Linear(64, 10) for _ in range(2))

    def forward(self, images, mixture):
        x = self.drop(self.norm(images.flatten(1)))
        return sum(w * branch(x) for w, branch in zip(mixture[0], self.branches, strict=True))


def test_the_same_mixture_is_worth_the_same_and_nothing_is_left_behind(data):
    torch.manual_seed(0)
    net = Foreign()
    net.drop.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    evaluate = evaluator(net, data.selection)
    half = torch.full((1, 2), 0.5)
    assert evaluate(half) == evaluate(half)
    assert evaluate(half) != evaluate(torch.tensor([[1.0, 0.0]]))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net.training, net.norm.training, net.drop.training) == (True, True, False)


def test_statistics_are_those_of_the_batch_and_not_the_running_ones(data):
    torch.manual_seed(0)
    net = Foreign()
    expected = evaluator(net, data.selection)(torch.full((1, 2), 0.5))
    net.norm.running_mean += 100.0
    assert evaluator(net, data.selection)(torch.full((1, 2), 0.5)) == expected
    with batch_statistics(net):
        assert (net.norm.training, net.drop.training) == (True, False)


def test_accuracy_and_loss_are_means_over_all_images():
    images = torch.arange(1200.0).view(-1, 1, 1, 1)
    part = Part("made", images, (torch.arange(1200) % 3 == 0).long())

    def forward(batch, mixture):  # says class 1 for the first 600
        return torch.stack([torch.zeros(len(batch)), 600 - batch.flatten()], dim=1)

    accuracy, loss = evaluator(forward, part)(torch.ones(1, 1))
    assert accuracy == (200 + 400) / 1200
    logits = forward(images, None)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, part.labels)), rel=1e-5)


def test_recalibrated_norms_have_the_statistics_of_the_given_images(small, data):
    net = small()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    images = [data.weights.images[:40], data.weights.images[40:]]
    with torch.no_grad():
        plain = net(data.selection.images, UNIFORM)
        with recalibrated(net, UNIFORM, images):
            alone = net(data.selection.images[:1], UNIFORM)
            together = net(data.selection.images, UNIFORM)
            stem = net.body.stem.norm
            seen = torch.cat([net.body.stem.conv(part) for part in images])
            torch.testing.assert_close(stem.running_mean, seen.mean(dim=(0, 2, 3)), rtol=0, atol=1e-4)
        torch.testing.assert_close(alone, together[:1], rtol=1e-4, atol=1e-4)  # no longer a matter of the batch
        assert not torch.allclose(together, plain, atol=1e-3)
        assert torch.equal(net(data.selection.images, UNIFORM), plain)
    assert net.training
    assert net.state_dict().keys() == state.keys()


def test_a_supernet_that_ignores_the_mixture_is_found_out(small, data):
    images = data.selection.images
    require_masks(small(), images, UNIFORM)
    deaf = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match="same logits whichever of its 6 decisions is taken out"):
        require_masks(lambda batch, mixture: deaf(batch), images, UNIFORM)

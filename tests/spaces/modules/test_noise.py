import copy

import pytest
import torch

from nasplug.spaces.modules.noise import Noise
from nasplug.spaces.modules.seeding import seeded

X = torch.zeros(4, 3, 6, 6)


def noise(seed=0, stride=1):
    with seeded(seed):
        return Noise(stride)


@pytest.mark.parametrize(("stride", "side"), [(1, 6), (2, 3)])
def test_its_input_says_its_shape_alone(stride, side):
    op = noise(stride=stride).eval()
    out = op(X.double())
    assert out.shape == (4, 3, side, side)
    assert out.dtype == torch.float64
    assert not out.requires_grad
    assert torch.equal(op(X.double() + 7), out)
    assert "stride" in repr(op)


def test_it_is_standard_normal():
    drawn = noise().eval()(torch.zeros(100, 10, 10, 10))
    # Of 100,000 draws: five standard deviations of the mean and of the deviation.
    assert abs(drawn.mean().item()) < 5 / 316
    assert abs(drawn.std().item() - 1) < 5 / 447


def test_evaluation_repeats_itself_and_training_does_not():
    op = noise()
    first, second = op(X), op(X)
    assert not torch.equal(first, second)
    evaluated = op.eval()(X)
    assert torch.equal(op(X), evaluated)
    op.train()(X)
    assert torch.equal(op.eval()(X), evaluated)
    assert not torch.equal(first, evaluated)
    assert not torch.equal(noise(seed=1).eval()(X), evaluated)
    assert torch.equal(noise().eval()(X), evaluated)


def test_its_state_goes_with_the_network_and_no_stream_moves(tmp_path):
    before = torch.get_rng_state()
    op = noise()
    op(X)
    torch.save(op.state_dict(), tmp_path / "state.pt")
    twin = noise(seed=5)
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    copied = copy.deepcopy(op)
    expected = op(X)
    assert torch.equal(twin(X), expected)
    assert torch.equal(copied(X), expected)
    assert torch.equal(twin.eval()(X), op.eval()(X))
    assert torch.equal(torch.get_rng_state(), before)

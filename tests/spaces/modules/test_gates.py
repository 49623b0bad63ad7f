import numpy as np
import pytest
import torch

from nasplug.errors import InputError
from nasplug.spaces.modules.gates import Gate, scale_at


def gate(scores: torch.Tensor) -> Gate:
    made = Gate(len(scores)).to(scores.dtype)
    made.scores.data.copy_(scores)
    return made


def test_the_schedule_is_the_published_one():
    published = [2.51, 6.31, 15.8, 39.8, 100, 251, 631, 1585, 3981, 1e4]
    np.testing.assert_allclose([scale_at(k) for k in range(10)], published, rtol=4e-3)
    assert scale_at(9) == 1e4
    assert [scale_at(k) for k in range(10)] == pytest.approx([10 ** (0.4 * (k + 1)) for k in range(10)])
    assert scale_at(2, epochs=3) == pytest.approx(1e4)
    for bad in (-1, 10):
        with pytest.raises(InputError, match="epochs 0 to 9"):
            scale_at(bad)


def test_gates_turn_binary_as_the_scale_grows():
    scores = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = scores[scores.abs() > 0.034]
    switch = gate(scores)
    switch.mode = "soft"
    gaps = []
    for switch.scale in (1.0, 10.0, 100.0, 1e3, 1e4):
        gaps.append(float((switch.values().detach() - (scores > 0).double()).abs().max()))
    assert gaps == sorted(gaps, reverse=True)
    assert 0.45 < gaps[0] < 0.5
    assert gaps[2] < 0.035
    assert gaps[3] < 1e-14
    assert gaps[4] < 1e-140


def test_the_gradient_is_that_of_the_scaled_sigmoid():
    scores = torch.linspace(-0.05, 0.05, 11, dtype=torch.float64)
    switch = gate(scores)
    switch.mode, switch.scale = "soft", 40.0
    values = switch.values()
    values.sum().backward()
    expected = 40.0 * values * (1 - values)
    torch.testing.assert_close(switch.scores.grad, expected.detach(), rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(
        lambda x: switch(x), torch.randn(1, 11, 2, 1, dtype=torch.float64, requires_grad=True)
    )


def test_modes():
    x = torch.randn(2, 3, 4, 4)
    switch = gate(torch.tensor([-1.0, 0.0, 1.0]))
    assert switch(x) is x
    switch.mode = "soft"
    torch.testing.assert_close(switch(x), x * torch.sigmoid(torch.tensor([-1.0, 0.0, 1.0]))[:, None, None])
    switch.mask.copy_(torch.tensor([True, False, True]))
    switch.mode = "hard"
    torch.testing.assert_close(switch(x), x * torch.tensor([1.0, 0.0, 1.0])[:, None, None])
    assert "hard" in repr(switch)

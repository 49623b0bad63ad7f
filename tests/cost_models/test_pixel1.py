"""pixel1: the published table, its winner, and the form in which the published search saw it."""

import numpy as np
import pytest

from nasplug.cost_models.base import load_cost_model
from nasplug.cost_models.pixel1 import Pixel1
from nasplug.errors import InputError
from nasplug.registry import configure
from nasplug.spaces import NASBenchMacro, SinglePathImageNet, SinglePathImageNetSE

SPACE = SinglePathImageNet()
WINNER = SPACE.from_string(["33 33 33 --|56 33 33 33|56 33 33 33|56 53 53 53|56 56 56 56"])
MODEL = Pixel1(space=SPACE)


def entries():
    """Milliseconds of each layer's blocks in code order, (20, 4)."""
    rows = np.zeros((4, 20), dtype=np.int64) + np.arange(4)[:, None]
    one = np.repeat(rows[:1], 80, axis=0)
    one[np.arange(80), np.repeat(np.arange(20), 4)] = np.tile(np.arange(4), 20)
    differences = (MODEL.predict(one) - MODEL.predict(rows[:1])).reshape(20, 4)
    skipped = np.repeat(rows[:1], 20, axis=0)
    skipped[np.arange(20), np.arange(20)] = SPACE.skip
    later = [i for i in range(20) if i not in SPACE.starts]
    first = np.full(20, np.nan)
    first[later] = MODEL.predict(rows[:1]) - MODEL.predict(skipped[later])
    first[list(SPACE.starts)] = (4.49, 1.96, 1.23, 1.73, 1.62)  # never skipped: from the sheet
    return first[:, None] + differences


def test_the_published_winner_and_the_bounds():
    assert MODEL.predict(WINNER)[0] == pytest.approx(80.44, abs=5e-3)
    uniform = np.arange(4)[:, None] * np.ones((1, 20), dtype=np.int64)
    np.testing.assert_allclose(MODEL.predict(uniform), [65.7, 76.4, 110.7, 131.5], atol=0.07)
    cheapest = np.full((1, 20), SPACE.skip)
    cheapest[:, list(SPACE.starts)] = 0
    assert MODEL.predict(cheapest)[0] == pytest.approx(30.6, abs=0.05)
    assert entries().sum(axis=0) + 19.60 == pytest.approx(MODEL.predict(uniform))


def published(keep, expand, widen):
    """Milliseconds of every layer as the published search saw them; arguments are indicators that broadcast."""
    _, k5_e3, k3_e6, k5_e6 = entries().T
    small = k3_e6 / k5_e6
    return keep * (k5_e3 + expand * (k5_e6 - k5_e3)) * (small + (1 - small) * widen)


def test_the_published_form_agrees_but_for_kernel_3_with_expansion_3():
    k3_e3, k5_e3, k3_e6, k5_e6 = entries().T
    np.testing.assert_allclose(published(1, 0, 1), k5_e3)
    np.testing.assert_allclose(published(1, 1, 0), k3_e6)
    np.testing.assert_allclose(published(1, 1, 1), k5_e6)
    assert not published(0, 1, 1).any()
    error = np.abs(published(1, 0, 0) / k3_e3 - 1).max()
    assert 0.04 < error < 0.05
    codes = WINNER[0]
    form = 19.60 + published(codes != SPACE.skip, codes // 2 % 2, codes % 2).sum()
    assert form == pytest.approx(80.58, abs=0.02)


def test_every_indicator_that_is_switched_on_costs_time():
    k3_e3, k5_e3, k3_e6, k5_e6 = entries().T
    for less, more in ((k3_e3, k5_e3), (k3_e3, k3_e6), (k5_e3, k5_e6), (k3_e6, k5_e6), (0, k3_e3)):
        assert (less < more).all()
    steps = np.linspace(0, 1, 5)
    for value in (published(steps[:, None], 1, 0), published(1, steps[:, None], 0), published(1, 0, steps[:, None])):
        assert (np.diff(value, axis=0) > 0).all()


@pytest.mark.parametrize("space", [SinglePathImageNetSE(), NASBenchMacro()])
def test_kernels_that_the_table_does_not_know_are_refused(space):
    with pytest.raises(InputError, match=f"none of '{space.name}'; measure that space"):
        configure("cost model", "pixel1", space)


def test_the_table_is_not_fitted_again_and_comes_back_from_a_file(tmp_path):
    with pytest.raises(InputError, match="fit 'lookup' instead"):
        Pixel1(space=SPACE).fit(SPACE.sample(4, np.random.default_rng(0)), np.array([80.0, 70.0, 60.0, 50.0]))
    assert MODEL.device == "Pixel 1"
    MODEL.save(tmp_path / "pixel1.npz")
    assert load_cost_model(tmp_path / "pixel1.npz", SPACE).predict(WINNER) == MODEL.predict(WINNER)

"""A price: exact on decided networks, its slopes the costs of neighbours, whatever the model."""

import numpy as np
import pytest
import torch

from nasplug.cost_models.pixel1 import Pixel1
from nasplug.errors import InputError
from nasplug.spaces import NASBench201, NASBenchMacro, SinglePathImageNet
from nasplug.spaces.modules import complexity
from nasplug.strategies.supernet.priced import Price

IMAGENET, MACRO = SinglePathImageNet(), NASBenchMacro()


def one_hot(space, row):
    return [
        torch.eye(int(k), dtype=torch.float64)[code].requires_grad_()
        for k, code in zip(space.n_choices, row, strict=True)
    ]


def crooked(genotypes):
    """A model that is no sum."""
    return np.exp(0.1 * genotypes.sum(axis=1)) + (genotypes[:, 0] == genotypes[:, 1])


@pytest.mark.parametrize(
    ("space", "predict"),
    [(IMAGENET, Pixel1(space=IMAGENET).predict), (MACRO, crooked), (NASBench201(), crooked)],
)
def test_slopes_are_what_a_change_of_one_site_costs(space, predict):
    price = Price(space, predict)
    for row in space.sample(5, np.random.default_rng(0)):
        choices = one_hot(space, row)
        cost = price.expected(choices)
        assert float(cost.detach()) == predict(row[None])[0]
        cost.backward()
        for site, choice in enumerate(choices):
            for code in range(len(choice)):
                changed = row.copy()
                changed[site] = code
                assert float(choice.grad[code]) == pytest.approx(predict(changed[None])[0] - float(cost.detach()))


def test_a_table_is_used_as_it_is_at_every_block():
    # The published form is off at kernel 3 with expansion 3; this one is off nowhere.
    model = Pixel1(space=IMAGENET)
    price = Price(IMAGENET, model.predict)
    choices = [torch.full((int(k),), 1 / int(k), dtype=torch.float64) for k in IMAGENET.n_choices]
    rows = IMAGENET.sample(100_000, np.random.default_rng(0))
    assert float(price.expected(choices)) == pytest.approx(model.predict(rows).mean(), abs=0.15)


def test_range():
    model = Pixel1(space=IMAGENET)
    low, high = Price(IMAGENET, model.predict).range(np.random.default_rng(0))
    assert (low, high) == pytest.approx((30.63, 131.46))
    flops = Price(MACRO, lambda rows: complexity.flops(MACRO, rows) / 1e6)
    assert flops.range(np.random.default_rng(0)) == pytest.approx((7.71328, 105.660928))
    # Not a sum, and too large to enumerate: the descents still find the ends of a monotone model.
    bent = Price(IMAGENET, lambda rows: np.sqrt(model.predict(rows)))
    assert bent.range(np.random.default_rng(0)) == pytest.approx((30.63**0.5, 131.46**0.5))


def test_costs_that_are_none_are_refused():
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="finite and above zero"):
            Price(MACRO, lambda rows, bad=bad: np.full(len(rows), bad)).of(MACRO.all()[:3])

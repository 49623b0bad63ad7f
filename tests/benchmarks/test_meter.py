import math

import numpy as np
import pytest

from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.meter import Meter
from nasplug.errors import InputError
from nasplug.strategies import Status


def test_every_purchase_is_charged_repeats_included(small_table):
    benchmark = open_benchmark(str(small_table))
    meter = Meter(benchmark, benchmark.search, 3, run=1)
    cell = benchmark.space.all()[100]
    bought = [meter.buy(cell) for _ in range(3)]
    assert meter.spent == 3
    assert bought[0] == bought[2]
    assert bought[0].value == benchmark.query(cell[None], "valid", epochs=12, seed=1)[0]
    assert bought[0].cost_s == 10.0 + cell.sum()
    assert (bought[0].split, bought[0].training_seed) == ("valid", 1)
    with pytest.raises(InputError, match="budget of 3 queries is spent"):
        meter.buy(cell)


def test_a_missing_architecture_fails_and_is_charged(partial_table):
    benchmark = open_benchmark(str(partial_table))
    meter = Meter(benchmark, benchmark.search, 2)
    failed, fine = meter.buy(benchmark.space.all()[1]), meter.buy(benchmark.space.all()[5])
    assert (failed.status, fine.status) == (Status.FAILED, Status.OK)
    assert math.isnan(failed.value)
    assert meter.spent == 2


def test_a_label_that_is_no_number_fails(small_table, monkeypatch):
    benchmark = open_benchmark(str(small_table))
    monkeypatch.setattr(benchmark, "labels", lambda rows, signal, run: np.full(len(rows), np.nan))
    assert Meter(benchmark, Signal("valid"), 1).buy(benchmark.space.all()[0]).status == Status.FAILED


def test_a_budget_is_at_least_one(small_table):
    benchmark = open_benchmark(str(small_table))
    with pytest.raises(InputError, match="at least 1 query, got 0"):
        Meter(benchmark, benchmark.search, 0)

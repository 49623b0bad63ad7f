"""A data set and a plan that train in a moment."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nasplug.benchmarks.trained.build import PLANS, Plan
from nasplug.images import Images, Split, load_images
from nasplug.images.catalog import DATASETS
from nasplug.spaces import NASBench201


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Images:
    """The data set ``few``: some of the digits."""
    digits = load_images("digits")
    sizes = ((digits.train, 96), (digits.valid, 80), (digits.test, 90))
    parts = [Split(split.images[:n], split.labels[:n]) for split, n in sizes]
    images = Images("few", *parts, classes=10)
    monkeypatch.setitem(DATASETS, "few", lambda root: images)  # type: ignore[index]
    return images


@pytest.fixture
def tiny(few: Images, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan ``tiny``: five cells, the first of which never sees the image, in two stacks."""
    sizes = {"channels": 4, "cells": 1, "in_channels": 1}
    plan = Plan("tiny", "nasbench201", sizes, images="few", recipe={"epochs": 2}, stack=3)
    cells = NASBench201().representative(NASBench201().sample(4, np.random.default_rng(0)))
    cells = np.unique(np.concatenate([cells, [[0] * 6]]), axis=0)
    vars(plan)["representatives"] = cells  # what it would compute, of all cells
    monkeypatch.setitem(PLANS, "tiny", plan)  # type: ignore[index]
    return plan

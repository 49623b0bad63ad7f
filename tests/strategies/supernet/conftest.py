"""Some of the digits, and a supernet that trains in a moment."""

from collections.abc import Callable, Iterator

import pytest
import torch

from nasplug.images import Images, Split, load_images
from nasplug.images.catalog import DATASETS
from nasplug.spaces import NASBench201
from nasplug.spaces.modules.supernets import Supernet, supernet
from nasplug.strategies.supernet.data import Halves, halves


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
    parts = [Split(part.images[:80], part.labels[:80]) for part in (digits.train, digits.valid, digits.test)]
    images = Images("few", *parts, classes=10)
    monkeypatch.setitem(DATASETS, "few", lambda root: images)  # type: ignore[index]
    return images


@pytest.fixture
def data(few: Images) -> Halves:
    return halves(few)


@pytest.fixture
def small() -> Callable[..., Supernet]:
    """Makes a supernet of NAS-Bench-201 from a seed."""
    return lambda seed=0: supernet(NASBench201(), classes=10, in_channels=1, seed=seed, channels=4, cells=1)

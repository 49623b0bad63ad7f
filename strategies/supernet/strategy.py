"""A method as a strategy like any other: its proposals are the architectures that its stages select."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from nasplug.errors import InputError, UnknownNameError
from nasplug.folder import data_folder
from nasplug.images import Images, load_images
from nasplug.spaces import Genotypes, Space
from nasplug.spaces.subspace import Bound, Subspace
from nasplug.strategies.base import Strategy, run_seed
from nasplug.strategies.history import History
from nasplug.strategies.supernet.run import Run

if TYPE_CHECKING:
    from nasplug.strategies.supernet.method import Method

__all__ = ["SizedStrategy", "SupernetStrategy"]

FORMAT = 3
"""Of runs: raised when a change of code makes old checkpoints useless, or the same settings select otherwise."""

_WHERE = ("space", "device", "folder")
"""Fields that say where a run is, not what it is."""


@dataclass(frozen=True, kw_only=True)
class SupernetStrategy(Strategy):
    """Train a supernet stage by stage, and propose what each stage selects.

    Labels of the history are not looked at: what a network is worth, it learns from its own images. Architectures
    that the history holds are passed over, so a stage that changes its mind about nothing makes no proposal; after
    the last stage come the architectures that it ranks next, then random ones.

    The run of a seed lives in a folder of its own, so that a stage is trained once, whoever asks and however often:
    a study that is resumed, or has several workers, goes on where it is. Test images are never seen.

    Args:
        images: data set to train on: ``digits``, ``cifar10``, ``cifar100``.
        root: folder of the CIFAR files.
        device: of torch, such as ``cpu`` or ``cuda``.
        folder: where runs are kept; None takes one in the data folder.

    Raises: InputError for a space that it has no supernet of.
    """

    images: str = "digits"
    root: str | None = None
    device: str = "cpu"
    folder: str | None = None
    _runs: dict[int, Run] = field(default_factory=dict, init=False, repr=False, compare=False)

    trains: ClassVar = True
    spaces: ClassVar[tuple[str, ...]]
    """Names of the spaces it has supernets of."""

    def __post_init__(self) -> None:
        if self.whole_space.name not in self.spaces:
            raise InputError(
                f"{type(self).__name__} has no supernet of the space {self.whole_space.name!r}; spaces that have: "
                f"{', '.join(self.spaces)}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Travel light: what is derived is derived again."""
        cls = type(self)
        kept = {k: v for k, v in vars(self).items() if not isinstance(getattr(cls, k, None), cached_property)}
        return {**kept, "_runs": {}}

    @cached_property
    def data_set(self) -> Images:
        """The images, loaded when they are first needed."""
        return load_images(self.images, Path(self.root) if self.root else None)

    @property
    def inputs(self) -> dict[str, Any]:
        """The images."""
        return {"images": self.data_set.checksum()}

    @property
    def bound(self) -> Bound | None:
        """The budget of the space, where it has one."""
        return self.space.bound if isinstance(self.space, Subspace) else None

    @property
    def whole_space(self) -> Space:
        """The space of its supernet: that of the search, or the whole of which that is a part."""
        return self.space.whole if isinstance(self.space, Subspace) else self.space

    def run(self, seed: int) -> Run:
        """Return the run of a seed; training begins with the first stage that is asked for."""
        if seed not in self._runs:
            images = self.data_set
            facts = self._facts(images, seed)
            digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()
            name = f"{type(self).__name__.lower()}-{self.whole_space.name}-{self.images}-seed{seed}-{digest}"
            parent = Path(self.folder) if self.folder else data_folder() / "supernets"
            self._runs[seed] = Run(
                parent / name, facts, self.whole_space, lambda: self._method(images, seed), self._stages(images)
            )
        return self._runs[seed]

    def _facts(self, images: Images, seed: int) -> dict[str, Any]:
        fields = [f.name for f in dataclasses.fields(self) if f.init and f.name not in _WHERE]
        options = {name: getattr(self, name) for name in fields}
        options = {name: one.item() if isinstance(one, np.generic) else one for name, one in options.items()}
        sites = [[p.name, p.size] for p in self.whole_space.parameters]
        return {
            "format": FORMAT,
            "strategy": type(self).__name__,
            "options": options | {"root": None},
            "space": self.whole_space.name,
            "sites": hashlib.blake2b(json.dumps(sites).encode(), digest_size=8).hexdigest(),
            "images": images.checksum(),
            "seed": seed,
        }

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        run = self.run(run_seed(rng))
        found = np.empty((0, self.space.n_sites), np.int64)
        for stage in range(run.stages):
            selection = run.selection(stage)
            assert selection is not None
            last = stage == run.stages - 1
            ranking = selection.ranking if last else selection.ranking[:1]
            found = np.concatenate([found, ranking[self.space.valid(ranking)]])
            if len(self._unseen(found, history.keys)) >= n:
                break
        return found

    @abstractmethod
    def _stages(self, images: Images) -> int:
        """Return how many stages the method has; imports no torch."""

    @abstractmethod
    def _method(self, images: Images, seed: int) -> Method:
        """Return the method, untrained, on ``self.device``; may import torch."""


@dataclass(frozen=True, kw_only=True)
class SizedStrategy(SupernetStrategy):
    """One whose supernets come in two sizes.

    Args:
        networks: ``small`` for images of up to 16x16 pixels, ``full`` for the published sizes; None takes what fits.

    Raises: UnknownNameError: another size of networks.
    """

    networks: Literal["small", "full"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.networks not in (None, "small", "full"):
            raise UnknownNameError("size of networks", str(self.networks), ("small", "full"))

    def is_small(self, images: Images) -> bool:
        """Return whether the small networks are trained."""
        return (self.networks or ("small" if images.train.images.shape[-1] <= 16 else "full")) == "small"

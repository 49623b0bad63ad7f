"""``eas``: one elastic network, an architecture for every task and budget. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.images import Images, load_images
from nasplug.images.cifar import superclasses
from nasplug.spaces import Elastic, Genotypes
from nasplug.spaces.modules.layout import ELASTIC_SMALL
from nasplug.strategies.base import run_seed
from nasplug.strategies.history import History
from nasplug.strategies.supernet.strategy import SupernetStrategy
from nasplug.strategies.supernet.tasks import ALL, DEFAULTS, Tasks, read_tasks

if TYPE_CHECKING:
    from nasplug.strategies.supernet.costs import Cost
    from nasplug.strategies.supernet.elastic_training import ElasticTraining
    from nasplug.strategies.supernet.method import Method

__all__ = ["EAS", "Predicts"]


@runtime_checkable
class Predicts(Protocol):
    """What a latency budget needs of a cost model."""

    def predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return milliseconds ``(n,)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class EAS(SupernetStrategy):
    """Elastic architecture search: train one network for all tasks, then a generator that answers any request.

    A request names a task, which is a group of classes, and a budget. Training knows neither: the super-network is
    trained with task dropout, the generator on random requests, both once a run. Then requests cost one forward pass
    (``method(seed).generator.answer``). As a strategy it proposes the answer for ``task`` and ``budget``, then the
    answers for smaller and smaller budgets; ``task``, ``kind`` and ``budget`` are no part of the run, so that another
    request trains nothing.

    Source: arXiv 2108.01224; what the abstract leaves open is ours, see
    :mod:`nasplug.strategies.supernet.elastic_training`.

    Args:
        tasks: YAML file of the tasks, ``name: [class, ...]``; None takes those of the data set, or one task of all.
        task: the task to propose for; ``all`` is that of all classes.
        kind: of the budget: ``flops`` (multiply-adds an image), ``params``, or ``latency`` (ms, by ``model``).
        budget: greatest cost; None for no bound.
        keep: probability of a task to stay in a training step; 1 is training without task dropout.
        steps: of the super-network.
        batch_size: images a step.
        learning_rate: of the super-network.
        subnets: sub-networks trained a step.
        noise: deviation of noise added to training images.
        generator_steps: of the generator.
        share: of the images that the super-network is trained on; the generator is trained on the others.
        networks: ``small`` for 8x8 pixels, ``full`` for 32x32; None takes what fits.
        model: a fitted latency model of the space, for budgets of that kind.

    Raises: InputError for another kind, a budget that is not above zero, latency without a model.
    """

    tasks: str | None = None
    task: str = ALL
    kind: Literal["flops", "params", "latency"] = "flops"
    budget: float | None = None
    keep: float = 0.5
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 3e-3
    subnets: int = 3
    noise: float = 0.0
    generator_steps: int = 1000
    share: float = 0.5
    networks: Literal["small", "full"] | None = None
    model: Predicts | None = None

    spaces: ClassVar = ("elastic",)
    request: ClassVar[tuple[str, ...]] = ("task", "kind", "budget")
    """Options that are asked of a trained run and change nothing in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("flops", "params", "latency"):
            raise InputError(f"eas knows budgets of flops, params and latency, got {self.kind!r}")
        if self.kind == "latency" and self.model is None:
            raise InputError("a latency budget needs a fitted cost model of the space 'elastic'")
        number = isinstance(self.budget, int | float) and not isinstance(self.budget, bool)
        if self.budget is not None and not (number and np.isfinite(self.budget) and self.budget > 0):
            raise InputError(f"a budget is a finite number above zero, got {self.budget!r}")

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of budgets the generator knows, in its order."""
        return ("flops", "params") if self.model is None else ("flops", "params", "latency")

    def groups(self, images: Images) -> Tasks:
        """Return the tasks: of the file, else of the data set (superclasses of CIFAR-100), else one of all classes."""
        if self.tasks is not None:
            return read_tasks(Path(self.tasks), images.classes)
        if self.images == "cifar100":
            return Tasks(superclasses(Path(self.root) if self.root else None), images.classes)
        return Tasks(DEFAULTS.get(self.images, {ALL: range(images.classes)}), images.classes)

    def loaded(self) -> Images:
        """Return the data set."""
        return load_images(self.images, Path(self.root) if self.root else None)

    def method(self, seed: int) -> ElasticTraining:
        """Return the trained method of a seed, training what is missing."""
        from nasplug.strategies.supernet.elastic_training import ElasticTraining

        method = self.run(seed).method()
        assert isinstance(method, ElasticTraining)
        return method

    def _facts(self, images: Images, seed: int) -> dict[str, Any]:
        facts = super()._facts(images, seed)
        for name in self.request:
            del facts["options"][name]
        facts["options"]["tasks"] = {name: list(classes) for name, classes in self.groups(images).groups.items()}
        if self.model is not None:
            known = Elastic().sample(256, np.random.default_rng(0))
            facts["options"]["model"] = hashlib.blake2b(self.model.predict(known).tobytes(), digest_size=8).hexdigest()
        return facts

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        mask = self.groups(self.loaded()).mask(self.task)
        ranking = self.method(run_seed(rng)).ranking(mask, self.kinds.index(self.kind), self.budget)
        return ranking[self.space.valid(ranking)]

    def _stages(self, images: Images) -> int:
        return 6

    def sizes(self, images: Images) -> dict[str, Any]:
        """Return the sizes of the networks for these images."""
        small = (self.networks or ("small" if images.train.images.shape[-1] <= 16 else "full")) == "small"
        return dict(ELASTIC_SMALL) if small else {}

    def _method(self, images: Images, seed: int) -> Method:
        from nasplug.spaces.modules.elastic import SuperNetwork
        from nasplug.spaces.modules.seeding import seeded
        from nasplug.strategies.supernet.data import halves
        from nasplug.strategies.supernet.elastic_training import ElasticTraining, Recipe
        from nasplug.strategies.supernet.generator import Generator, Schedule

        data = halves(images, share=self.share, device=self.device)
        with seeded(seed):
            net = SuperNetwork(classes=data.classes, in_channels=data.channels, **self.sizes(images))
        generator = Generator(self.costs(images), data.classes, seed=seed)
        tasks = self.groups(images)
        recipe = Recipe(
            self.steps, self.batch_size, self.learning_rate, self.keep, self.subnets, self.noise,
            Schedule(steps=self.generator_steps),
        )  # fmt: skip
        masks = tasks.masks if len(tasks.names) else tasks.mask(ALL)[None]
        return ElasticTraining(net, generator, data, masks, recipe, seed)

    def costs(self, images: Images) -> list[Cost]:
        """Return the costs of :attr:`kinds`."""
        from nasplug.strategies.supernet.costs import elastic_costs, tabulated

        space, side = Elastic(), int(images.train.images.shape[-1])
        found = elastic_costs(space, in_channels=images.channels, size=side, **self.sizes(images))
        if self.model is not None:
            found["latency"] = tabulated("latency", space, self.model.predict)
        return [found[kind] for kind in self.kinds]

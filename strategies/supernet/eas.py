"""``eas``: one elastic network, an architecture for every task and budget. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.images import Images
from nasplug.images.cifar import superclasses
from nasplug.spaces import Elastic, Genotypes, Space
from nasplug.spaces.modules.layout import ELASTIC_SMALL
from nasplug.spaces.subspace import Subspace
from nasplug.strategies.base import run_seed
from nasplug.strategies.history import History
from nasplug.strategies.supernet.run import require_torch
from nasplug.strategies.supernet.strategy import SizedStrategy
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
class EAS(SizedStrategy):
    """Elastic architecture search: train one network for all tasks, then a generator that answers any request.

    A request names a task, which is a group of classes, and a budget. Training knows neither: the super-network is
    trained with task dropout, the generator on random requests, both once a run. Then requests cost one forward pass
    (``method(seed).generator.answer``). As a strategy it proposes the answer for ``task`` and ``budget``, then the
    answers for smaller and smaller budgets, then random networks within the budget; ``task``, ``kind`` and ``budget``
    are no part of the run, so that another request trains nothing. The budget of a space (``--max-latency`` and
    ``--cost-model``, :func:`nasplug.cost_models.constraint.affordable`) is one of latency.

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
        model: a fitted latency model of the space, for budgets of that kind.

    Raises: InputError for another kind, a budget that is not above zero, latency without a model, a budget or model
        beside that of the space. When it proposes, before anything is trained, for a budget that no network meets: it
        names the cheapest.
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
    model: Predicts | None = None

    spaces: ClassVar = ("elastic",)
    request: ClassVar[tuple[str, ...]] = ("task", "kind", "budget")
    """Options that are asked of a trained run and change nothing in it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("flops", "params", "latency"):
            raise InputError(f"eas knows budgets of flops, params and latency, got {self.kind!r}")
        if self.bound is not None and (self.model is not None or self.budget is not None or self.kind == "latency"):
            raise InputError(
                f"the space has a budget of {self.bound.at_most:g} and its own cost model; leave budget, kind and "
                "model out, or the budget of the space"
            )
        if self.kind == "latency" and self.model is None:
            raise InputError("a latency budget needs a fitted cost model of the space 'elastic'")
        number = isinstance(self.budget, int | float) and not isinstance(self.budget, bool)
        if self.budget is not None and not (number and np.isfinite(self.budget) and self.budget > 0):
            raise InputError(f"a budget is a finite number above zero, got {self.budget!r}")

    @property
    def _latency(self) -> Callable[[Genotypes], NDArray[np.float64]] | None:
        if self.bound is not None:
            return self.bound.cost
        return None if self.model is None else self.model.predict

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of budgets the generator knows, in its order."""
        return ("flops", "params") if self._latency is None else ("flops", "params", "latency")

    @property
    def limit(self) -> tuple[int, float | None]:
        """The number of the kind, and what may be spent, None for no bound."""
        if self.bound is not None:
            return self.kinds.index("latency"), float(self.bound.at_most)
        return self.kinds.index(self.kind), self.budget

    @cached_property
    def groups(self) -> Tasks:
        """The tasks: of the file, else of the data set (superclasses of CIFAR-100), else one of all classes."""
        classes = self.data_set.classes
        if self.tasks is not None:
            return read_tasks(Path(self.tasks), classes)
        if self.images == "cifar100":
            return Tasks(superclasses(Path(self.root) if self.root else None), classes)
        return Tasks(DEFAULTS.get(self.images, {ALL: range(classes)}), classes)

    @property
    def inputs(self) -> dict[str, Any]:
        """The images, and the tasks."""
        return super().inputs | {"tasks": {name: list(classes) for name, classes in self.groups.groups.items()}}

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
        facts["options"]["tasks"] = self.inputs["tasks"]
        if self._latency is not None:
            known = Elastic().sample(256, np.random.default_rng(0))
            facts["options"]["model"] = hashlib.blake2b(self._latency(known).tobytes(), digest_size=8).hexdigest()
        return facts

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        mask, (kind, budget) = self.groups.mask(self.task), self.limit
        self._require_a_network(mask, kind, budget)
        ranking = self.method(run_seed(rng)).ranking(mask, kind, budget)
        return ranking[self.space.valid(ranking)]

    def _require_a_network(self, mask: NDArray[np.bool_], kind: int, budget: float | None) -> None:
        cost, classes = self.costs[kind], np.array([mask.sum()])
        cheapest = cost.cheapest[0][None]
        least = float(cost.of(cheapest, classes)[0])
        if budget is not None and budget < least:
            raise InputError(
                f"no network for the task {self.task!r} costs {budget:g} ({cost.name}) or less; the cheapest, "
                f"{Elastic().to_string(cheapest)[0]}, costs {least:.6g}"
            )

    def _rest(self, rng: np.random.Generator) -> Space:
        kind, budget = self.limit
        if budget is None or self.bound is not None:
            return self.space
        cost, classes = self.costs[kind], int(self.groups.mask(self.task).sum())

        def within(genotypes: Genotypes) -> NDArray[np.bool_]:
            inside: NDArray[np.bool_] = cost.of(genotypes, np.full(len(genotypes), classes)) <= budget
            return inside

        known = cost.cheapest[0][None]
        return Subspace(self.space, within, f"{cost.name} <= {budget:g}", known[self.space.valid(known)])

    def _stages(self, images: Images) -> int:
        return 6

    def sizes(self, images: Images) -> dict[str, Any]:
        """Return the sizes of the networks for these images."""
        return dict(ELASTIC_SMALL) if self.is_small(images) else {}

    def _method(self, images: Images, seed: int) -> Method:
        from nasplug.spaces.modules.elastic import SuperNetwork
        from nasplug.spaces.modules.seeding import seeded
        from nasplug.strategies.supernet.data import halves
        from nasplug.strategies.supernet.elastic_training import ElasticTraining, Recipe
        from nasplug.strategies.supernet.generator import Generator, Schedule

        data = halves(images, share=self.share, device=self.device)
        with seeded(seed):
            net = SuperNetwork(classes=data.classes, in_channels=data.channels, **self.sizes(images))
        generator = Generator(self.costs, data.classes, seed=seed)
        recipe = Recipe(
            self.steps, self.batch_size, self.learning_rate, self.keep, self.subnets, self.noise,
            Schedule(steps=self.generator_steps),
        )  # fmt: skip
        masks = self.groups.masks if self.groups.names else self.groups.mask(ALL)[None]
        return ElasticTraining(net, generator, data, masks, recipe, seed)

    @cached_property
    def costs(self) -> list[Cost]:
        """The costs of :attr:`kinds`; raises MissingDependencyError without torch."""
        require_torch()
        from nasplug.strategies.supernet.costs import elastic_costs, tabulated

        space, images = Elastic(), self.data_set
        side = int(images.train.images.shape[-1])
        found = elastic_costs(space, in_channels=images.channels, size=side, **self.sizes(images))
        if self._latency is not None:
            found["latency"] = tabulated("latency", space, self._latency)
        return [found[kind] for kind in self.kinds]

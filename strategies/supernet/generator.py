"""The architecture generator of EAS: a task and a budget in, an architecture out, in one forward pass.

A task is a group of classes, given as a row of a boolean matrix, so that groups may overlap and new ones are possible.
A budget is a number and its kind, see :mod:`nasplug.strategies.supernet.costs`.

Source: arXiv 2108.01224, of which only the abstract was available: a generator trained through the frozen super-network
that answers any pair of task and budget at once. Network, relaxation, losses and repair are ours.

Shapes: r requests; k classes; s sites; o logits of all sites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.spaces.modules.relaxed import Choices
from nasplug.spaces.modules.seeding import seeded
from nasplug.spaces.staged import StagedSpace
from nasplug.strategies.supernet.costs import Cost

__all__ = ["Answers", "Generator", "Objective", "Requests", "Schedule", "requests", "train"]

Objective = Callable[[Choices, "Requests"], Tensor]
"""What is minimised beside the cost: the loss of each request's relaxed network on its task, ``(r,)``."""

LADDER = np.concatenate([[0.0], 0.15 * np.linspace(-1, 1, 32)])
"""Where else in the span of costs an answer is looked for, relative to its budget."""

FILL = 0.98
"""Share of a budget from which on an answer is not grown any more."""


@dataclass(frozen=True, eq=False)
class Requests:
    """What is asked for. Attributes: tasks bool ``(r, k)``; budgets ``(r,)``; kinds, number of the cost ``(r,)``."""

    tasks: NDArray[np.bool_]
    budgets: NDArray[np.float64]
    kinds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.budgets)

    @property
    def classes(self) -> NDArray[np.int64]:
        """Classes of each task, ``(r,)``."""
        return self.tasks.sum(axis=1)


@dataclass(frozen=True, eq=False)
class Answers:
    """Architectures for requests.

    Attributes:
        genotypes: ``(r, s)``; where nothing meets the budget, the cheapest network.
        costs: of them by the cost model, with the task's classifier, ``(r,)``.
        met: whether the budget is met, ``(r,)``.
        repaired: whether the likeliest architecture was another, ``(r,)``.
    """

    genotypes: Genotypes
    costs: NDArray[np.float64]
    met: NDArray[np.bool_]
    repaired: NDArray[np.bool_]


class Generator(nn.Module):
    """Weights of every choice for each request, from an embedding of its task and of its budget.

    A task is the mean of its classes' embeddings. A budget lies between two learnt anchors of its kind, and its
    embedding is the weighted mean of theirs.

    Args:
        costs: the kinds of budgets, of one space.
        classes: k.
        anchors: of each kind, spread evenly over the span of its costs.
        width: of each of the two embeddings.
        hidden: units of the two hidden layers.
        seed: of the weights.

    Raises: InputError for kinds of different spaces or of one name.
    """

    def __init__(
        self, costs: Sequence[Cost], classes: int, *, anchors: int = 9, width: int = 16, hidden: int = 64, seed: int = 0
    ):
        super().__init__()
        self.costs, self.classes, self.space = tuple(costs), classes, costs[0].space
        if any(cost.space != self.space for cost in costs) or len({cost.name for cost in costs}) != len(costs):
            raise InputError(f"a generator needs budgets of one space, each once; got {[c.name for c in costs]}")
        with seeded(seed):
            self.task = nn.Linear(classes, width, bias=False)
            self.anchors = nn.Parameter(torch.randn(len(costs), anchors, width))
            self.body = nn.Sequential(
                nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                nn.Linear(hidden, int(self.space.n_choices.sum())),
            )  # fmt: skip
        allowed = np.ones(int(self.space.n_choices.sum()), dtype=bool)
        for cost in costs:
            if self.space.parameters[self.space.more_sites]:
                allowed[-len(cost.allowed) :] &= cost.allowed
        self.register_buffer("closed", torch.from_numpy(~allowed), persistent=False)

    def position(self, asked: Requests) -> NDArray[np.float64]:
        """Return where the budgets lie in the spans of their kinds, 0 to 1 and clipped there, ``(r,)``."""
        least, greatest, per_class = np.array([(*cost.span, cost.per_class) for cost in self.costs])[asked.kinds].T
        return np.clip((asked.budgets - per_class * asked.classes - least) / (greatest - least), 0.0, 1.0)

    def embedded(self, kinds: Tensor, position: Tensor) -> Tensor:
        """Return the embeddings of budgets, ``(r, width)``."""
        last = self.anchors.shape[1] - 1
        low = (position * last).floor().clamp(max=last - 1)
        beyond = (position * last - low)[:, None]
        low = low.long()
        return torch.lerp(self.anchors[kinds, low], self.anchors[kinds, low + 1], beyond)

    def forward(self, tasks: NDArray[np.bool_], kinds: NDArray[np.int64], position: NDArray[np.float64]) -> Tensor:
        """Return the logits of all sites, ``(r, o)``; of codes that are not allowed, minus infinity.

        Args:
            tasks: ``(r, k)``.
            kinds: number of the cost, ``(r,)``.
            position: of the budget in the span of its kind, 0 to 1, ``(r,)``.
        """
        groups, places = (torch.as_tensor(values, dtype=torch.float32) for values in (tasks, position))
        budget = self.embedded(torch.as_tensor(kinds), places)
        task = self.task(groups / groups.sum(dim=1, keepdim=True))
        logits: Tensor = self.body(torch.cat([task, budget], dim=1))
        return logits.masked_fill(self.get_buffer("closed"), -torch.inf)

    def by_site(self, logits: Tensor) -> Choices:
        """Return logits ``(r, o)`` in the form of choices."""
        space, ends = self.space, self.space.n_choices.cumsum()
        depth, kernel, expand = (
            logits[:, int(ends[sites.stop - 1] - count * size) : int(ends[sites.stop - 1])].reshape(-1, count, size)
            for sites, count, size in (
                (space.depth_sites, space.stages, len(space.depths)),
                (space.kernel_sites, space.blocks, len(space.kernels)),
                (space.expand_sites, space.blocks, len(space.expansions)),
            )
        )
        rest = logits[:, int(ends[space.expand_sites.stop - 1]) :]
        sizes = space.n_choices[space.more_sites].tolist()
        return Choices(depth, kernel, expand, torch.split(rest, sizes, dim=1) if sizes else ())

    def probabilities(self, logits: Tensor) -> Choices:
        """Return the probability of every choice."""
        return _each(lambda site: site.softmax(dim=-1), self.by_site(logits))

    def drawn(self, logits: Tensor, temperature: float, rng: torch.Generator) -> Choices:
        """Return a draw of every site: all weight on one code, with the gradient of a soft one (straight through)."""
        noise = -torch.empty_like(logits).exponential_(generator=rng).log()

        def through(site: Tensor) -> Tensor:
            soft = site.softmax(dim=-1)
            hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
            return hard + soft - soft.detach()

        return _each(through, self.by_site((logits + noise) / temperature))

    # -- deployment --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def answer(self, asked: Requests) -> Answers:
        """Return an architecture for each request, all from one forward pass; no budget is exceeded if one can be met.

        The pass also asks for budgets around each; of the likeliest architectures for those, the most expensive that
        the true budget allows is taken. What exceeds the budget even so is shrunk, and what uses less than ``FILL`` of
        it grown, one site at a time, by the changes that lose the least likelihood for what they save or cost; what
        then still uses less, two sites at once. A code's likelihood counts relative to the likeliest of its site, so
        that a block more or less is no gain or loss of its own.

        Args:
            asked: r requests.

        Raises: InputError for requests that are not of this generator: another number of classes, a kind it does not
            know, a task without classes, a budget that is not a finite number above zero.
        """
        self.check(asked)
        return _repaired(self, asked)

    def check(self, asked: Requests) -> None:
        """Raise InputError for requests that are not of this generator."""
        if asked.tasks.shape != (len(asked), self.classes) or asked.kinds.shape != (len(asked),):
            raise InputError(
                f"expected tasks ({len(asked)}, {self.classes}), over the {self.classes} classes of the generator, "
                f"and as many kinds; got {asked.tasks.shape} and {asked.kinds.shape}"
            )
        if not asked.tasks.any(axis=1).all():
            raise InputError(f"request {int(np.argmin(asked.tasks.any(axis=1)))} names no class")
        if ((asked.kinds < 0) | (asked.kinds >= len(self.costs))).any():
            raise InputError(
                f"kinds of budgets are 0 to {len(self.costs) - 1}, got {sorted(set(asked.kinds.tolist()))}"
            )
        if not (np.isfinite(asked.budgets) & (asked.budgets > 0)).all():
            raise InputError("budgets are finite numbers above zero")

    def cost(self, genotypes: Genotypes, asked: Requests, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what networks ``(m, s)`` cost for the requests of numbers ``rows`` ``(m,)``, each in its own kind."""
        costs = np.empty(len(genotypes))
        kinds, classes = asked.kinds[rows], asked.classes[rows]
        for kind in np.unique(kinds):
            of_kind = kinds == kind
            costs[of_kind] = self.costs[kind].of(genotypes[of_kind], classes[of_kind])
        return costs


# -- repair ------------------------------------------------------------------------------------------------------------


def _repaired(generator: Generator, asked: Requests) -> Answers:
    space, n = generator.space, len(asked)
    position = np.clip(generator.position(asked) + LADDER[:, None], 0.0, 1.0)  # the requests themselves come first
    steps = len(position)
    logits = generator(np.tile(asked.tasks, (steps, 1)), np.tile(asked.kinds, steps), position.ravel())
    every = np.arange(n)
    ladder = np.concatenate([part.argmax(dim=-1).flatten(1) for part in _flat(generator.by_site(logits))], axis=1)
    first = ladder[:n].copy()
    costs = generator.cost(space.masked(ladder), asked, np.tile(every, steps)).reshape(steps, n)
    best = np.where(costs <= asked.budgets, costs, -np.inf).argmax(axis=0)  # the first where none is affordable
    rows, costs = ladder.reshape(steps, n, -1)[best, every], costs[best, every]

    likely = _relative(space, logits[:n].numpy())
    _move(generator, asked, likely, rows, costs, grow=False)
    _move(generator, asked, likely, rows, costs, grow=True)
    _pair(generator, asked, likely, rows, costs)
    over = np.flatnonzero(costs > asked.budgets)  # moves lead nowhere, or nowhere is cheap enough
    if len(over):
        rows[over] = np.stack([generator.costs[kind].cheapest[0] for kind in asked.kinds[over]])
        costs[over] = generator.cost(rows[over], asked, over)
    rows, first = space.masked(rows), space.masked(first)
    return Answers(rows, costs, costs <= asked.budgets, (rows != first).any(axis=1))


def _move(
    generator: Generator,
    asked: Requests,
    likely: NDArray[np.float32],
    rows: Genotypes,
    costs: NDArray[np.float64],
    *,
    grow: bool,
) -> None:
    """Change one site after the other, in place: to come within the budget, or to use it.

    Of the moves that save (or cost) something, the one is made that loses the least likelihood for it; where no more
    than what is missing counts as saved, and nothing may grow beyond the budget.
    """
    space, budgets = generator.space, asked.budgets
    sites, codes = _moves(space, likely)
    left = np.flatnonzero(costs < FILL * budgets if grow else costs > budgets)
    while len(left):
        moved = np.repeat(rows[left], len(sites), axis=0)
        moved[np.arange(len(moved)), np.tile(sites, len(left))] = np.tile(codes, len(left))
        places = np.repeat(left, len(sites))
        moved_costs = generator.cost(space.masked(moved), asked, places)
        change = moved_costs - costs[places]
        gain = np.minimum(change if grow else -change, np.abs(budgets - costs)[places])
        fits = gain > 1e-9 * budgets[places]
        if grow:
            fits &= moved_costs <= budgets[places]
        lost = _likelihood(space, likely, rows[left], left).repeat(len(sites)) - _likelihood(
            space, likely, moved, places
        )
        price = np.where(fits, lost / np.where(fits, gain / budgets[places], 1.0), np.inf).reshape(len(left), -1)
        chosen = price.argmin(axis=1) + len(sites) * np.arange(len(left))
        fits = fits[chosen]
        left, chosen = left[fits], chosen[fits]
        rows[left], costs[left] = moved[chosen], moved_costs[chosen]
        left = left[costs[left] < FILL * budgets[left] if grow else costs[left] > budgets[left]]


def _pair(
    generator: Generator, asked: Requests, likely: NDArray[np.float32], rows: Genotypes, costs: NDArray[np.float64]
) -> None:
    """Change two sites at once, in place, where a budget is left unused that no single change could use.

    Of the pairs that then use ``FILL`` of the budget, the likeliest is taken; where there is none, the one that uses
    the most.
    """
    space, budgets = generator.space, asked.budgets
    sites, codes = _moves(space, likely)
    one, two = np.triu_indices(len(sites), k=1)
    one, two = one[sites[one] != sites[two]], two[sites[one] != sites[two]]
    for row in np.flatnonzero(costs < FILL * budgets):
        moved = np.repeat(rows[[row]], len(one), axis=0)
        every, place = np.arange(len(one)), np.full(len(one), row)
        moved[every, sites[one]] = codes[one]
        moved[every, sites[two]] = codes[two]
        moved_costs = generator.cost(space.masked(moved), asked, place)
        gained = np.where(moved_costs <= budgets[row], np.minimum(moved_costs, FILL * budgets[row]), -np.inf)
        if gained.max() > costs[row]:
            best = int(np.lexsort((_likelihood(space, likely, moved, place), gained))[-1])
            rows[row], costs[row] = moved[best], moved_costs[best]


def _moves(space: StagedSpace, likely: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the site and the code of every change that is allowed."""
    sites = np.repeat(np.arange(space.n_sites), space.n_choices)
    codes = np.concatenate([np.arange(size) for size in space.n_choices])
    allowed = np.isfinite(likely[0])
    return sites[allowed], codes[allowed]


def _relative(space: StagedSpace, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log of each code's probability over that of its site's likeliest code, ``(r, o)``."""
    starts = np.cumsum(space.n_choices) - space.n_choices
    best: NDArray[np.float32] = np.maximum.reduceat(logits, starts, axis=1)
    return logits - np.repeat(best, space.n_choices, axis=1)


def _likelihood(
    space: StagedSpace, likely: NDArray[np.float32], rows: Genotypes, places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the relative log likelihood of each row ``(m, s)`` for the request of its place ``(m,)``."""
    starts = np.cumsum(space.n_choices) - space.n_choices
    return np.where(space.counting(rows), likely[places[:, None], starts + rows], 0.0).sum(axis=1)


def _each(change: Callable[[Tensor], Tensor], choices: Choices) -> Choices:
    return Choices(
        change(choices.depth), change(choices.kernel), change(choices.expand), tuple(map(change, choices.more))
    )


def _flat(choices: Choices) -> list[Tensor]:
    """Return the parts in the order of sites, each ``(r, sites, codes)``."""
    return [choices.depth, choices.kernel, choices.expand, *(part[:, None] for part in choices.more)]


# -- training ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a generator is trained; rate and temperatures were chosen on OFA-MobileNetV3, by its accuracy predictor.

    Attributes:
        steps: of the optimiser (Adam).
        batch: requests a step.
        rate: learning rate, lowered to zero along a cosine.
        hot: first temperature of the relaxation.
        cold: last one; between them it falls exponentially.
        penalty: weight of the relative cost beyond the budget.
        clip: largest norm of a step's gradient.
    """

    steps: int = 1000
    batch: int = 4
    rate: float = 1e-2
    hot: float = 1.0
    cold: float = 0.5
    penalty: float = 5.0
    clip: float = 1.0


def train(
    generator: Generator, objective: Objective, tasks: NDArray[np.bool_], schedule: Schedule, *, seed: int = 0
) -> list[float]:
    """Train a generator on random requests and return the mean loss of each step.

    A request has a uniform task, kind and budget, the budget anywhere in the span of its kind. The loss is the
    objective's, plus ``penalty`` times the relative cost beyond the budget; nothing is gained by using less.

    Args:
        generator: is changed.
        objective: loss of relaxed networks on their tasks, ``(r,)``; differentiable in the choices.
        tasks: groups of classes, ``(t, k)``.
        schedule: how.
        seed: of requests and draws.
    """
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(generator.parameters(), schedule.rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, schedule.steps)
    losses = []
    for step in range(schedule.steps):
        asked = requests(generator, tasks, schedule.batch, rng)
        temperature = schedule.hot * (schedule.cold / schedule.hot) ** (step / max(schedule.steps - 1, 1))
        logits = generator(asked.tasks, asked.kinds, generator.position(asked))
        loss = objective(generator.drawn(logits, temperature, noise), asked).mean()
        # The table is linear in every site, so the cost of the probabilities is the mean cost of what is drawn.
        loss = loss + schedule.penalty * _excess(generator, generator.probabilities(logits), asked).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(generator.parameters(), schedule.clip)
        optimiser.step()
        decay.step()
        losses.append(float(loss.detach()))
    return losses


def requests(generator: Generator, tasks: NDArray[np.bool_], n: int, rng: np.random.Generator) -> Requests:
    """Draw requests: task and kind uniform, budget uniform from the least to the greatest cost of the task."""
    kinds = rng.integers(len(generator.costs), size=n)
    drawn = tasks[rng.integers(len(tasks), size=n)]
    least, greatest, per_class = np.array([(*cost.span, cost.per_class) for cost in generator.costs])[kinds].T
    return Requests(drawn, least + (greatest - least) * rng.random(n) + per_class * drawn.sum(axis=1), kinds)


def _excess(generator: Generator, choices: Choices, asked: Requests) -> Tensor:
    """Return the relative cost beyond each budget, ``(r,)``."""
    costs = torch.stack([cost.relaxed(choices) for cost in generator.costs])[asked.kinds, np.arange(len(asked))]
    per_class = np.array([cost.per_class for cost in generator.costs])[asked.kinds]
    fixed, budgets = (torch.as_tensor(v, dtype=costs.dtype) for v in (per_class * asked.classes, asked.budgets))
    return ((costs + fixed) / budgets - 1).relu()

"""EAS: an architecture for every task and budget in one pass, against searches that begin anew for every request.

    python benchmarks/reproduce/eas.py --data FOLDER [--seeds 5] [--jobs 2] [--out DIR] [--quick]

FOLDER holds ``ofa_mobilenetv3/`` with once-for-all's ``accuracy_predictor.pth`` and ``note10_lookup_tables/``.

1. ``ofa``: 50 latency budgets of 15 to 60 ms on the Samsung Note10 for OFA-MobileNetV3, by once-for-all's published
   accuracy predictor. The generator is trained through the predictor on random budgets of 10 to 92 ms and answers in
   one batched pass; the peer is once-for-all's evolution, 50,100 predictor calls a budget. Settings of the generator
   were tried on budgets of FLOPs and on these 50 with seed 0; reported are seeds 10, 11, ...: no unseen budgets.
2. ``digits``: an elastic super-network on digits with noise, tasks {0,4,6}, {1,7}, {2,3,5}, {8,9}, trained with task
   dropout (0.5), without it, and with one task a step. Then 50 scenarios on each of the first two: those tasks and the
   six unions of two of them, which were never trained, at 10, 25, 40, 60 and 80 % of the span of FLOPs. Peers on the
   same weights: an evolution by an accuracy predictor with one output a task (100 generations of 100, ridge regression
   on 200 random sub-networks, all tasks read from the same logits), random networks within the budget, five untrained
   generators with the same repair, and one network a budget for all tasks (the same evolution, for the task of all
   classes). Architectures are chosen on images of the selection half; printed are accuracies on the 697 test images,
   in per cent, with 95 % intervals over seeds of weights and searches (images and their noise are the same for all),
   and the mean share of the budget that is used. ``other task``: what the generator answers another task at this
   budget, on the images of this one. Steps, predictor and generations were set before; no setting was chosen by these
   accuracies.
3. ``mixed``: the same with digits beside gratings, two tasks that need different things, ten scenarios, 1,394 test
   images: does the task matter?

Times are processor seconds of one thread. OUT/eas.png shows accuracy against budget (needs matplotlib). What is
trained and what is found is kept under OUT/runs and not made again. A full run takes about 150 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nasplug.benchmarks.environment import environment
from nasplug.benchmarks.importers.ofa import read_note10_tables, read_predictor
from nasplug.benchmarks.ofa_surrogate import OFASurrogate
from nasplug.benchmarks.statistics import bootstrap_ci
from nasplug.files import write_whole
from nasplug.images import Images, Split, load_images
from nasplug.spaces import Elastic, Genotypes, OFAMobileNetV3
from nasplug.spaces.modules.elastic import SuperNetwork
from nasplug.spaces.modules.layout import ELASTIC_SMALL
from nasplug.spaces.modules.seeding import seeded
from nasplug.spaces.ofa_mobilenetv3 import RESOLUTIONS
from nasplug.strategies.predictors.learners import Ridge
from nasplug.strategies.supernet.costs import elastic_costs, tabulated
from nasplug.strategies.supernet.data import Halves, Part, halves
from nasplug.strategies.supernet.elastic_training import ElasticTraining, Recipe, masked
from nasplug.strategies.supernet.generator import Generator, Requests, Schedule, train
from nasplug.strategies.supernet.peers import Evolution, evolve, feasible
from nasplug.strategies.supernet.predicted import PredictedError
from nasplug.strategies.supernet.tasks import DEFAULTS

NOTE10_MS = np.linspace(15.0, 60.0, 50)
SHARES = (0.10, 0.25, 0.40, 0.60, 0.80)
NOISE = 0.665
"""Deviation of the noise on normalised digits: 0.25 where pixels are 0 to 1."""

KEEP = {"task dropout": 0.5, "without": 1.0, "one task a step": 1e-9}
ORIENTATIONS = 6
WAYS = ("generator", "evolution", "random", "untrained", "fixed")
UNTRAINED = 5
"""Generators that have learnt nothing, whose answers are repaired like those of the trained one."""

FIRST_OFA = 10
"""The first seed of part 1; settings were tried with seed 0."""

SPACE = Elastic()


# -- 1. latency budgets by published models ----------------------------------------------------------------------------


def ofa(runs: Path, data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """Return the 50 answers of a generator and of the evolution."""
    torch.set_num_threads(1)
    source = data / "ofa_mobilenetv3"
    arrays = read_predictor(source / "accuracy_predictor.pth")
    tables = read_note10_tables(source / "note10_lookup_tables")
    benchmark = OFASurrogate({"accuracy_predictor": arrays, "note10_tables": tables})
    space = OFAMobileNetV3()

    def latency(rows: Genotypes) -> NDArray[np.float64]:
        return benchmark.query(rows, "latency_note10_ms")

    cost = tabulated("latency", space, latency, allowed=np.array(RESOLUTIONS) >= 160)
    schedule = Schedule(steps=150 if quick else 5000, batch=64, penalty=20.0)

    def made(seed: int) -> Generator:
        return Generator([cost], 1, anchors=17, hidden=128, seed=seed)

    def learnt() -> dict[str, Any]:
        generator, started = made(seed), time.process_time()
        train(generator, PredictedError(arrays), np.ones((1, 1), dtype=bool), schedule, seed=seed)
        return {"state": generator.state_dict(), "seconds": time.process_time() - started}

    def evolved() -> dict[str, Any]:
        found, calls, started = [], 0, time.process_time()
        for i, budget in enumerate(budgets):
            row, scored = evolve(
                benchmark.space,
                lambda rows: benchmark.query(rows, "valid"),
                lambda rows, budget=budget: latency(rows) <= budget,
                np.random.default_rng([seed, i]),
                Evolution(generations=5) if quick else Evolution(),
                start=cost.cheapest[0][None],
            )
            found.append(row)
            calls = max(calls, scored)
        return {"rows": np.stack(found), "calls": calls, "seconds": time.process_time() - started}

    budgets = NOTE10_MS[::25] if quick else NOTE10_MS
    trained = stored(runs / f"ofa-generator-{seed}.pt", learnt)
    generator = made(seed)
    generator.load_state_dict(trained["state"])
    asked = Requests(np.ones((50, 1), dtype=bool), NOTE10_MS, np.zeros(50, dtype=np.int64))
    first, answers, answer_s = timed(generator, asked)
    peer = stored(runs / f"ofa-evolution-{seed}.pt", evolved)
    random = np.concatenate(
        [
            feasible(
                benchmark.space, 20, lambda rows, b=b: latency(rows) <= b, np.random.default_rng([seed, 99, i]),
                cost.cheapest[0][None],
            )
            for i, b in enumerate(NOTE10_MS)
        ]
    )  # fmt: skip
    untrained = np.stack([made(100 * (seed + 1) + k).answer(asked).genotypes for k in range(UNTRAINED)], axis=1)

    def accuracy(rows: Genotypes) -> NDArray[np.float64]:
        return 100 * benchmark.query(rows, "valid")

    def each(rows: Genotypes) -> tuple[list[float], list[float]]:
        """Return mean accuracy and share of the budget, a number a budget."""
        rows = rows.reshape(-1, space.n_sites)
        of = np.repeat(NOTE10_MS, len(rows) // 50)
        return tuple(v.reshape(50, -1).mean(axis=1).tolist() for v in (accuracy(rows), latency(rows) / of))  # type: ignore[return-value]

    at = np.searchsorted(NOTE10_MS, budgets)
    (random_pct, random_share), (untrained_pct, untrained_share) = each(random), each(untrained)
    return {
        "generator": accuracy(answers.genotypes).tolist(),
        "generator_there": accuracy(answers.genotypes[at]).tolist(),
        "evolution": accuracy(peer["rows"]).tolist(),
        "random": random_pct,
        "untrained": untrained_pct,
        "first_share": (cost.predict(first) / NOTE10_MS).tolist(),
        "share": (answers.costs / NOTE10_MS).tolist(),
        "evolution_share": (latency(peer["rows"]) / budgets).tolist(),
        "random_share": random_share,
        "untrained_share": untrained_share,
        "met": answers.met.tolist(),
        "distinct": len(np.unique(space.keys(answers.genotypes))),
        "calls": peer["calls"],
        "trained_s": trained["seconds"],
        "answer_s": answer_s,
        "evolution_s": peer["seconds"] / len(budgets) * 50,
    }


def timed(generator: Generator, asked: Requests) -> tuple[Genotypes, Any, float]:
    """Return the likeliest architectures, the answers, and the seconds the answers take: the median of five."""
    with torch.no_grad():
        logits = generator(asked.tasks, asked.kinds, generator.position(asked))
        parts = generator.by_site(logits)
        codes = [part.argmax(dim=-1).flatten(1) for part in parts[:3]]
        first = torch.cat([*codes, *(part.argmax(dim=-1)[:, None] for part in parts.more)], dim=1).numpy()
    seconds = []
    for _ in range(5):
        started = time.process_time()
        answers = generator.answer(asked)
        seconds.append(time.process_time() - started)
    return generator.space.masked(first), answers, float(np.median(seconds))


# -- 2. and 3. tasks on images -----------------------------------------------------------------------------------------


def gratings(digits: Images) -> Images:
    """Return the digits with as many images of fine gratings of six orientations, classes 10 to 15."""
    parts = []
    for k, part in enumerate((digits.train, digits.valid, digits.test)):
        rng = np.random.default_rng([7, k])
        labels = rng.integers(ORIENTATIONS, size=len(part))
        angle, phase = np.pi * labels / ORIENTATIONS, rng.uniform(0, 2 * np.pi, len(part))
        y, x = np.indices((8, 8))
        along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
        waves = np.sin(2 * np.pi * along / 3.0 + phase[:, None, None])[:, None].astype(np.float32)
        parts.append(Split(np.concatenate([part.images, waves]), np.concatenate([part.labels, 10 + labels])))
    return Images("mixed", *parts, classes=10 + ORIENTATIONS)


def noisy(part: Part, seed: int) -> Part:
    """Return a part with noise that stays the same."""
    noise = np.random.default_rng(seed).normal(0.0, NOISE, size=tuple(part.images.shape))
    return Part(part.name, part.images + torch.from_numpy(noise.astype(np.float32)), part.labels)


def prepared(setting: str) -> tuple[Halves, Part, dict[str, tuple[int, ...]]]:
    """Return halves, test images and tasks of a setting; training images get their noise in training, fresh."""
    images = load_images("digits")
    groups = {name: tuple(classes) for name, classes in DEFAULTS["digits"].items()}
    if setting == "mixed":
        images = gratings(images)
        groups = {"digits": tuple(range(10)), "gratings": tuple(range(10, 10 + ORIENTATIONS))}
    data = halves(images)
    test = Part("test", torch.from_numpy(images.test.images), torch.from_numpy(images.test.labels))
    return Halves(data.weights, noisy(data.selection, 1), data.classes, data.crop), noisy(test, 2), groups


def digits(runs: Path, setting: str, dropout: str, seed: int, quick: bool) -> dict[str, Any]:
    """Train one super-network and generator; return accuracies of random sub-networks and of the 50 scenarios."""
    torch.set_num_threads(1)
    data, test, groups = prepared(setting)
    masks = {name: np.isin(np.arange(data.classes), classes) for name, classes in groups.items()}
    tasks = np.stack(list(masks.values()))
    with seeded(seed):
        net = SuperNetwork(classes=data.classes, in_channels=1, **ELASTIC_SMALL)
    cost = elastic_costs(SPACE, in_channels=1, size=8, **ELASTIC_SMALL)["flops"]
    schedule = Schedule(steps=3 if quick else 1000)
    recipe = Recipe(steps=15 if quick else 3000, keep=KEEP[dropout], noise=NOISE, generator=schedule)
    method = ElasticTraining(net, Generator([cost], data.classes, seed=seed), data, tasks, recipe, seed)
    last = method.stages - (dropout == "one task a step")

    def learnt() -> dict[str, Any]:
        seconds = []
        for _ in range(last):
            started = time.process_time()
            method.advance()
            seconds.append(time.process_time() - started)
        return {"state": method.state(), "seconds": seconds}

    name = runs / f"{setting}-{dropout.replace(' ', '_')}-{seed}"
    trained = stored(name.with_suffix(".pt"), learnt)
    method.restore(trained["state"])
    some = SPACE.sample(3 if quick else 80, np.random.default_rng([seed, 5]))
    everything = np.ones(data.classes, dtype=bool)
    facts: dict[str, Any] = {
        "trained_s": sum(trained["seconds"][: method.stages - 1]),
        "masked": float(np.mean([method.accuracy(g, mask, test) for g in some for mask in tasks])),
        "all": float(np.mean([method.accuracy(g, everything, test) for g in some])),
    }
    if dropout == "one task a step":
        return facts
    return facts | {"generator_trained_s": trained["seconds"][-1]} | scenarios(method, masks, test, name, quick)


def scenarios(
    method: ElasticTraining, tasks: dict[str, NDArray[np.bool_]], test: Part, name: Path, quick: bool
) -> dict[str, Any]:
    """Return accuracies, costs and times of every way to choose, a list over scenarios each."""
    cost, seed = method.generator.costs[0], method.seed
    wanted = dict(tasks)
    if len(tasks) > 2:
        wanted |= {f"{a}+{b}": tasks[a] | tasks[b] for a, b in combinations(tasks, 2)}
    names = list(wanted)
    masks = np.repeat(np.stack(list(wanted.values())), len(SHARES), axis=0)
    least, greatest = cost.span
    budgets = np.tile(least + np.array(SHARES) * (greatest - least), len(names)) + cost.per_class * masks.sum(axis=1)
    first, answers, answer_s = timed(method.generator, Requests(masks, budgets, np.zeros(len(budgets), dtype=np.int64)))

    settings = Evolution(generations=2) if quick else Evolution(generations=100)

    def searched() -> dict[str, Any]:
        started = time.process_time()
        scores = predictors(method, [*wanted.values(), np.ones(masks.shape[1], dtype=bool)], 8 if quick else 200)
        predictor_s = time.process_time() - started

        def search(score: Callable[[Genotypes], NDArray[np.float64]], i: int) -> NDArray[np.int64]:
            def within(rows: Genotypes) -> NDArray[np.bool_]:
                inside: NDArray[np.bool_] = cost.of(rows, masks[[i]].sum(axis=1)) <= budgets[i]
                return inside

            rng, start = np.random.default_rng([seed, 6, i]), cost.cheapest[0][None]
            return evolve(SPACE, score, within, rng, settings, start)[0]

        started = time.process_time()
        evolved = np.stack([search(scores[i // len(SHARES)], i) for i in range(len(budgets))])
        seconds = time.process_time() - started
        # All tasks may spend the same beside their classifiers, so what fits one fits all.
        fixed = np.stack([search(scores[-1], i) for i in range(len(SHARES))])
        return {"evolved": evolved, "fixed": fixed, "seconds": seconds, "predictor_s": predictor_s}

    peers = stored(name.with_name(name.name + "-peers.pt"), searched)
    evolved, fixed = peers["evolved"], np.tile(peers["fixed"], (len(names), 1))
    random = [
        feasible(
            SPACE, 5, lambda rows, i=i: cost.of(rows, masks[[i]].sum(axis=1)) <= budgets[i],
            np.random.default_rng([seed, 7, i]), cost.cheapest[0][None],
        )
        for i in range(len(budgets))
    ]  # fmt: skip

    asked = Requests(masks, budgets, np.zeros(len(budgets), dtype=np.int64))
    untrained = [
        Generator([cost], masks.shape[1], seed=100 * (seed + 1) + k).answer(asked).genotypes for k in range(UNTRAINED)
    ]

    def accuracy(rows: Genotypes) -> list[float]:
        return [method.accuracy(g, mask, test) for g, mask in zip(rows, masks, strict=True)]

    def share(rows: Genotypes) -> NDArray[np.float64]:
        used: NDArray[np.float64] = cost.of(rows, masks.sum(axis=1)) / budgets
        return used

    trained = range(len(tasks) * len(SHARES))
    other = []
    for i in trained:
        theirs = {j for j in trained if j % len(SHARES) == i % len(SHARES) and j != i}
        other.append(float(np.mean([method.accuracy(answers.genotypes[j], masks[i], test) for j in sorted(theirs)])))
    found = {
        "generator": accuracy(answers.genotypes),
        "evolution": accuracy(evolved),
        "fixed": accuracy(fixed),
        "random": [
            float(np.mean([method.accuracy(g, mask, test) for g in rows]))
            for rows, mask in zip(random, masks, strict=True)
        ],
        "untrained": np.mean([accuracy(rows) for rows in untrained], axis=0).tolist(),
        "other": other,
    }
    return found | {
        "trained_tasks": len(trained),
        "first_share": (cost.of(first, masks.sum(axis=1)) / budgets).tolist(),
        "share": (answers.costs / budgets).tolist(),
        "met": answers.met.tolist(),
        "evolution_share": share(evolved).tolist(),
        "fixed_share": share(fixed).tolist(),
        "random_share": np.mean([share(np.stack(rows)) for rows in zip(*random, strict=True)], axis=0).tolist(),
        "untrained_share": np.mean([share(rows) for rows in untrained], axis=0).tolist(),
        "distinct": len(np.unique(SPACE.keys(answers.genotypes))),
        "answer_s": answer_s,
        "evolution_s": peers["seconds"],
        "predictor_s": peers["predictor_s"],
    }


def predictors(
    method: ElasticTraining, tasks: list[NDArray[np.bool_]], n: int
) -> list[Callable[[Genotypes], NDArray[np.float64]]]:
    """Return a predictor of the accuracy on each task, fitted to random sub-networks on the selection half.

    All tasks are read from the same logits, so more tasks cost no more passes.
    """
    rng = np.random.default_rng([method.seed, 8])
    rows, part = SPACE.sample(n, rng), method.data.selection
    everything = np.ones(method.data.classes, dtype=bool)
    targets = np.empty((n, len(tasks)))
    for i, genotype in enumerate(rows):
        with torch.no_grad():
            logits = method.deployed(genotype, everything)(part.images)
        for t, task in enumerate(tasks):
            inside = torch.from_numpy(task)[part.labels]
            right = masked(logits[inside], task).argmax(dim=1) == part.labels[inside]
            targets[i, t] = float(right.float().mean())
    return [Ridge(SPACE).fit(rows, column, np.random.default_rng(0)).mean for column in targets.T]


# -- runs and tables ---------------------------------------------------------------------------------------------------


def stored(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what takes long, from its file where it is there."""
    if not path.exists():
        write_whole(path, lambda temporary: torch.save(make(), temporary))
    found: dict[str, Any] = torch.load(path, weights_only=False)  # written by this script
    return found


def spread(samples: Any, scale: float = 1.0) -> dict[str, float]:
    """Return the mean over seeds and its 95 % interval."""
    values = scale * np.asarray(samples, dtype=np.float64)
    low, high = bootstrap_ci(values) if len(values) > 1 else (float("nan"), float("nan"))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def text(one: dict[str, float], digits: int = 2) -> str:
    """Return mean and interval."""
    return f"{one['mean']:.{digits}f} [{one['low']:.{digits}f}, {one['high']:.{digits}f}]"


def within(shares: Any, low: float = 0.98, high: float = 1.02) -> float:
    """Return the share of scenarios that use the budget to 2 %, over or under."""
    values = np.asarray(shares)
    return float(((values >= low) & (values <= high)).mean())


def ofa_table(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Print and return the first table."""
    row = {
        "generator_pct": spread([np.mean(run["generator"]) for run in runs]),
        "random_pct": spread([np.mean(run["random"]) for run in runs]),
        "untrained_pct": spread([np.mean(run["untrained"]) for run in runs]),
        "shares": {
            way: float(np.mean([np.mean(run[key]) for run in runs]))
            for way, key in (
                ("generator", "share"),
                *((one, f"{one}_share") for one in ("evolution", "random", "untrained")),
            )
        },
        "evolution_pct": spread([np.mean(run["evolution"]) for run in runs]),
        "generator_minus_evolution": spread(
            [np.mean(run["generator_there"]) - np.mean(run["evolution"]) for run in runs]
        ),
        "worst_budget": float(min(np.min(np.subtract(run["generator_there"], run["evolution"])) for run in runs)),
        "within_2pct_raw": float(np.mean([within(run["first_share"]) for run in runs])),
        "within_2pct": float(np.mean([within(run["share"]) for run in runs])),
        "exceeded": int(sum(np.sum(np.array(run["share"]) > 1) for run in runs)),
        "distinct": float(np.mean([run["distinct"] for run in runs])),
        "answer_s": spread([run["answer_s"] for run in runs]),
        "evolution_s": spread([run["evolution_s"] for run in runs]),
        "trained_s": spread([run["trained_s"] for run in runs]),
        "calls": runs[0]["calls"],
    }
    ratio = row["evolution_s"]["mean"] / row["answer_s"]["mean"]
    print(f"\n1. 50 latency budgets on the Note10, OFA-MobileNetV3, predicted top-1 in per cent; {len(runs)} seeds")
    print(f"{'generator, one pass':<44}{text(row['generator_pct'])}")
    print(f"{f'evolution, {calls_text(row)} predictor calls a budget':<44}{text(row['evolution_pct'])}")
    print(f"{'random within the budget, no call':<44}{text(row['random_pct'])}")
    print(f"{'untrained generators, the same repair':<44}{text(row['untrained_pct'])}")
    print(f"{'mean share of the budget used':<44}{shares_text(row['shares'])}")
    print(
        f"{'generator minus evolution':<44}{text(row['generator_minus_evolution'], 3)}; worst {row['worst_budget']:.2f}"
    )
    print(f"{'within 2 % of the budget, before and after':<44}{row['within_2pct_raw']:.2f}, {row['within_2pct']:.2f}")
    print(f"{'budgets exceeded after repair':<44}{row['exceeded']}; {row['distinct']:.0f} distinct networks of 50")
    print(
        f"{'seconds for 50 requests':<44}{row['answer_s']['mean']:.3f} against {row['evolution_s']['mean']:.0f}: "
        f"x{ratio:.0f}"
    )
    print(f"{'seconds to train the generator, once':<44}{row['trained_s']['mean']:.0f}")
    return row | {"ratio": ratio}


def calls_text(row: dict[str, Any]) -> str:
    """Return the number of calls."""
    return f"{row['calls']:,}"


def shares_text(shares: dict[str, float]) -> str:
    """Return mean shares of the budget, by way."""
    return ", ".join(f"{way} {share:.3f}" for way, share in shares.items())


def digits_table(setting: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Print and return the table of a setting."""
    rows: dict[str, Any] = {}
    print(f"\n{2 if setting == 'digits' else 3}. {setting}: random sub-networks, test accuracy in per cent")
    print(f"{'training':<20}{'within the task':>26}{'all classes':>26}")
    for dropout, found in runs.items():
        row = {key: spread([run[key] for run in found], 100) for key in ("masked", "all")}
        print(f"{dropout:<20}{text(row['masked']):>26}{text(row['all']):>26}")
        rows[dropout] = row
    if "without" in runs:
        for key in ("masked", "all"):
            gain = spread([a[key] - b[key] for a, b in zip(runs["task dropout"], runs["without"], strict=True)], 100)
            rows["task dropout"][f"{key}_minus_without"] = gain
            where = "within the task" if key == "masked" else "on all classes"
            print(f"task dropout minus without, {where}, paired by seed: {text(gain)}")
    for dropout, found in runs.items():
        if "generator" not in found[0]:
            continue
        chosen = {way: spread([np.mean(run[way]) for run in found], 100) for way in WAYS}
        n = found[0]["trained_tasks"]
        row = {
            **chosen,
            "shares": {
                way: float(np.mean([np.mean(r["share" if way == "generator" else f"{way}_share"]) for r in found]))
                for way in WAYS
            },
            "generator_minus_evolution": spread(
                [np.mean(r["generator"]) - np.mean(r["evolution"]) for r in found], 100
            ),
            "generator_minus_random": spread([np.mean(r["generator"]) - np.mean(r["random"]) for r in found], 100),
            "generator_minus_untrained": spread(
                [np.mean(r["generator"]) - np.mean(r["untrained"]) for r in found], 100
            ),
            "generator_minus_fixed": spread([np.mean(r["generator"]) - np.mean(r["fixed"]) for r in found], 100),
            "same_minus_other_task": spread([np.mean(r["generator"][:n]) - np.mean(r["other"]) for r in found], 100),
            "within_2pct_raw": float(np.mean([within(r["first_share"]) for r in found])),
            "within_2pct": float(np.mean([within(r["share"]) for r in found])),
            "exceeded": int(sum(np.sum(np.array(r["share"]) > 1) for r in found)),
            "distinct": float(np.mean([r["distinct"] for r in found])),
            "answer_s": spread([r["answer_s"] for r in found]),
            "evolution_s": spread([r["evolution_s"] for r in found]),
            "predictor_s": spread([r["predictor_s"] for r in found]),
            "generator_trained_s": spread([r["generator_trained_s"] for r in found]),
        }
        rows[dropout] |= row
        print(
            f"\n{setting}, {dropout}: {len(found[0]['share'])} scenarios, {len(found)} seeds, test accuracy on the task"
        )
        for way, value in chosen.items():
            print(f"  {way:<28}{text(value)}")
        for key in (
            "generator_minus_evolution",
            "generator_minus_random",
            "generator_minus_untrained",
            "generator_minus_fixed",
            "same_minus_other_task",
        ):
            print(f"  {key.replace('_', ' '):<28}{text(row[key])}")
        print(
            f"  within 2 % of the budget    {row['within_2pct_raw']:.2f} before, {row['within_2pct']:.2f} after repair"
        )
        print(f"  share of the budget used    {shares_text(row['shares'])}")
        print(
            f"  seconds before the first    {row['generator_trained_s']['mean']:.0f} to train the generator, "
            f"{row['predictor_s']['mean']:.0f} for the evolution's predictor"
        )
        print(f"  exceeded {row['exceeded']}; {row['distinct']:.0f} distinct networks; seconds "
              f"{row['answer_s']['mean']:.3f} against {row['evolution_s']['mean']:.1f}: "
              f"x{row['evolution_s']['mean'] / row['answer_s']['mean']:.0f}")  # fmt: skip
    return rows


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Write accuracy against budget as one picture, a panel a setting, bands being 95 % intervals over seeds."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("no matplotlib, no picture")
        return

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {
        "ofa-": ("once-for-all, Note10", "budget, ms", NOTE10_MS),
        "digits-task dropout-": ("digits, 10 tasks", "budget, % of the span of FLOPs", 100 * np.array(SHARES)),
        "mixed-task dropout-": ("digits and gratings", "budget, % of the span of FLOPs", 100 * np.array(SHARES)),
    }
    panels = {start: panel for start, panel in panels.items() if any(name.startswith(start) for name in found)}
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.4), layout="constrained", squeeze=False)
    for axis, (start, (title, unit, budgets)) in zip(axes[0], panels.items(), strict=True):
        runs = [run for name, run in found.items() if name.startswith(start)]
        colours = ("#d1495b", "#00798c", "#9db4c0", "#7a6f9b", "#edae49")
        ways = dict(zip(WAYS, colours, strict=True))
        for way, colour in ways.items():
            if way not in runs[0] or len(runs[0][way]) % len(budgets):
                continue
            scale = 1 if start == "ofa-" else 100
            curves = scale * np.stack([np.reshape(run[way], (-1, len(budgets))).mean(axis=0) for run in runs])
            ends = np.array([bootstrap_ci(column) for column in curves.T])
            axis.plot(budgets, curves.mean(axis=0), color=colour, label=way, lw=1.4)
            axis.fill_between(budgets, ends[:, 0], ends[:, 1], color=colour, alpha=0.15, lw=0)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(unit)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("top-1 accuracy, %")
    lines, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Train, answer, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, help="without it, the part on OFA-MobileNetV3 is left out")
    parser.add_argument("--out", type=Path, default=Path("eas"))
    parser.add_argument("--quick", action="store_true", help="two seeds, a few steps of everything")
    options = parser.parse_args()
    runs = options.out / ("runs-quick" if options.quick else "runs")
    seeds = range(2 if options.quick else options.seeds)
    jobs: dict[str, tuple[Any, ...]] = {}
    if options.data is not None:
        jobs |= {f"ofa-{seed}": (ofa, runs, options.data, seed + FIRST_OFA, options.quick) for seed in seeds}
    settings = {"digits": tuple(KEEP), "mixed": ("task dropout",)}
    for setting, ways in settings.items():
        for way in ways:
            jobs |= {f"{setting}-{way}-{seed}": (digits, runs, setting, way, seed, options.quick) for seed in seeds}
    # Not joblib: it takes functions of this file apart, and `.classes` beside torch for the module torch.classes.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        submitted = {name: pool.submit(*job) for name, job in jobs.items()}
        found = {name: future.result() for name, future in submitted.items()}
    report: dict[str, Any] = {}
    if options.data is not None:
        report["ofa"] = ofa_table([found[f"ofa-{seed}"] for seed in seeds])
    for setting, ways in settings.items():
        report[setting] = digits_table(
            setting, {way: [found[f"{setting}-{way}-{seed}"] for seed in seeds] for way in ways}
        )
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"rows": report, "seeds": len(seeds), "quick": options.quick, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(found, options.out / "eas.png")


if __name__ == "__main__":
    main()

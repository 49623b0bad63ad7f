"""The data card of the tables that this project measured: their numbers, printed, and docs/digits.md made of them.

    python benchmarks/reproduce/digits_card.py --data FOLDER [--table NAME]... [--build NAME=DIR]... [--docs docs]

Numbers are of the packaged tables; with ``--build`` of a build's folder, of what is finished there, which also tells
how long the build took. FOLDER holds ``nasbench201/epochs12.csv.gz``, ``epochs200.csv.gz`` and
``nasbench_macro/nas-bench-macro_cifar10.json`` (CONTRIBUTING.md); what is missing is left out and named. Validation
accuracies of NAS-Bench-201 also come from the built-in table. Nothing is random. Needs matplotlib for the figures.

``--docs`` writes ``digits.md`` with a figure a table there; the text around the numbers is in this script.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from digits_labels import TEST, TRAIN, VALID, Labels, load
from numpy.typing import NDArray
from scipy.stats import spearmanr

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.importers.common import ImportOptions
from nasplug.benchmarks.importers.macro import import_macro
from nasplug.benchmarks.trained.build import PLANS
from nasplug.benchmarks.trained.training import Recipe
from nasplug.errors import DataError, MissingDependencyError
from nasplug.images import load_images
from nasplug.machine import processor
from nasplug.spaces import Genotypes, Space
from nasplug.spaces.modules import complexity
from nasplug.spaces.nasbench201 import OPERATIONS as CELL_OPERATIONS

CHANCE = 0.15
"""At or below, a network has learnt nothing that counts: the most frequent of ten classes has a share of 0.10."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Other:
    """Labels of the same architectures from elsewhere, ``(c,)``: a class has the mean of its members."""

    name: str
    values: Floats


class Card:
    """The numbers of one table; every method yields lines of Markdown."""

    def __init__(self, labels: Labels, others: list[Other]):
        self.labels, self.plan, self.others = labels, labels.plan, others
        self.space: Space = self.plan.open_space()
        kept = labels.done.any(axis=1)
        self.rows: Genotypes = self.plan.representatives[kept]
        self.accuracy = np.where(labels.done[..., None, None], labels.accuracy, np.nan)[kept]
        self.mean = np.nanmean(self.accuracy, axis=1)  # (c, e, 3)
        self.test, self.valid = self.mean[:, -1, TEST], self.mean[:, -1, VALID]
        self.epoch_s, self.stack_s = labels.epoch_s[kept], labels.stack_s
        self.others = [Other(one.name, one.values[kept]) for one in others]
        self.seeds, self.epochs = self.accuracy.shape[1:3]
        # Only the seeds that every architecture seen here has can be compared with each other.
        self.full = ~np.isnan(self.accuracy).any(axis=(2, 3))

    # -- sections ----------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        yield f"## {self.plan.name}"
        yield ""
        for section in (
            self.measured,
            self.distribution,
            self.ranks,
            self.elsewhere,
            self.special,
            self.best,
            self.time,
        ):
            yield from section()
            yield ""

    def measured(self) -> Iterator[str]:
        plan, space = self.plan, self.space
        sizes = ", ".join(f"{key} {value}" for key, value in plan.sizes.items())
        classes, trainings = len(plan.representatives), int(self.labels.done.sum())
        params = complexity.params(space, self.rows, **plan.sizes)
        side = load_images(plan.images).train.images.shape[-1]
        flops = complexity.flops(space, self.rows, size=side, **plan.sizes)
        yield f"- {space.size:,} architectures of `{plan.space}` in {classes:,} classes; one of each class was trained."
        wanted = classes * self.seeds
        state = "all there" if trainings == wanted else f"of {wanted:,}; the others are not there (yet) or diverged"
        yield f"- {trainings:,} trainings, {self.seeds} seed(s), {self.epochs} epochs each: {state}."
        yield f"- Networks: {sizes}; {params.min():,} to {params.max():,} parameters (median {np.median(params):,.0f}),"
        yield f"  {flops.min():,} to {flops.max():,} multiply-adds an image (median {np.median(flops):,.0f})."
        flat = self.accuracy.reshape(len(self.rows), -1)
        distinct = len(np.unique(np.nan_to_num(flat, nan=-1), axis=0))
        yield f"- {distinct:,} of the {len(self.rows):,} classes seen here differ in an accuracy at some epoch; others"
        yield "  compute the same, or answer alike."
        if self.labels.torch:
            yield f"- Trained with torch {self.labels.torch}."

    def distribution(self) -> Iterator[str]:
        points = (0, 1, 5, 25, 50, 75, 95, 99, 100)
        yield f"Accuracy after {self.epochs} epochs, in percent, mean of the seeds:"
        yield ""
        yield "| part | " + " | ".join(("min", *(f"{p} %" for p in points[1:-1]), "max")) + " | mean | s.d. |"
        yield "|---" * (len(points) + 3) + "|"
        for name, part in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
            values = 100 * self.mean[:, -1, part]
            shown = " | ".join(f"{value:.2f}" for value in np.percentile(values, points))
            yield f"| {name} | {shown} | {values.mean():.2f} | {values.std():.2f} |"
        yield ""
        chance = int((self.test <= CHANCE).sum())
        yield (
            f"{chance} of {len(self.test):,} classes answer at chance (test accuracy of at most {CHANCE:.0%}). "
            f"Train is a running average within the epoch."
        )
        if self.seeds > 1:
            both = self.full.all(axis=1)
            seeds = self.accuracy[both][:, :, -1, TEST]
            noise, spread = seeds.var(axis=1, ddof=1).mean(), seeds.mean(axis=1).var(ddof=1)
            best = seeds.mean(axis=1) >= np.quantile(seeds.mean(axis=1), 0.9)
            yield (
                f"Between seeds the test accuracy of a class has a standard deviation of {100 * noise**0.5:.2f} points "
                f"({100 * seeds[best].var(axis=1, ddof=1).mean() ** 0.5:.2f} in the best tenth), between the means of "
                f"classes {100 * spread**0.5:.2f} ({100 * seeds[best].mean(axis=1).std(ddof=1):.2f})."
            )

    def ranks(self) -> Iterator[str]:
        top = self.test >= np.quantile(self.test, 0.9)
        yield "Rank correlation (Spearman), over all classes and within the tenth that is best on test:"
        yield ""
        yield "| | all | best tenth |"
        yield "|---|---|---|"
        last = self.accuracy[:, :, -1]
        for part, name in ((VALID, "validation"), (TEST, "test")):
            pairs = list(combinations(range(self.seeds), 2))
            if pairs:
                both = [rank(last[:, a, part], last[:, b, part]) for a, b in pairs]
                best = [rank(last[top, a, part], last[top, b, part]) for a, b in pairs]
                yield f"| {name}, two seeds (mean of pairs) | {np.mean(both):.3f} | {np.mean(best):.3f} |"
        of_one = [rank(last[:, k, VALID], self.test) for k in range(self.seeds)]
        of_top = [rank(last[top, k, VALID], self.test[top]) for k in range(self.seeds)]
        yield f"| validation of one seed, test mean | {np.mean(of_one):.3f} | {np.mean(of_top):.3f} |"
        same = [rank(last[:, k, VALID], last[:, k, TEST]) for k in range(self.seeds)]
        same_top = [rank(last[top, k, VALID], last[top, k, TEST]) for k in range(self.seeds)]
        yield f"| validation and test of the same seed | {np.mean(same):.3f} | {np.mean(same_top):.3f} |"
        if self.seeds > 1:
            top_rank = rank(self.valid[top], self.test[top])
            yield f"| validation mean, test mean | {rank(self.valid, self.test):.3f} | {top_rank:.3f} |"
        for e in range(self.epochs - 1):
            early = [self.accuracy[:, k, e, VALID] for k in range(self.seeds)]
            both = [rank(one, self.test) for one in early]
            best = [rank(one[top], self.test[top]) for one in early]
            epochs = "epoch" if e == 0 else "epochs"
            yield (
                f"| validation of one seed after {e + 1} {epochs}, test mean after {self.epochs} "
                f"| {np.mean(both):.3f} | {np.mean(best):.3f} |"
            )

    def elsewhere(self) -> Iterator[str]:
        if not self.others:
            yield "(No table of other images to compare with.)"
            return
        connected = self.test > CHANCE
        yield "Rank correlation with what the same architectures reach on larger images, over all classes and over"
        yield "those better than chance here; last, the best tenth there:"
        yield ""
        yield f"| | valid@{self.epochs} | test@{self.epochs} | test, better than chance | test, best tenth there |"
        yield "|---|---|---|---|---|"
        for one in self.others:
            top = one.values >= np.quantile(one.values, 0.9)
            numbers = [
                rank(self.valid, one.values),
                rank(self.test, one.values),
                rank(self.test[connected], one.values[connected]),
                rank(self.test[top], one.values[top]),
            ]
            yield f"| {one.name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |"

    def special(self) -> Iterator[str]:
        rows = self.rows
        yield "Groups of classes, test accuracy in percent:"
        yield ""
        yield "| group | classes | min | median | max |"
        yield "|---|---|---|---|---|"
        for name, members in self.groups():
            values = 100 * self.test[members]
            if len(values):
                shown = " | ".join(f"{v:.2f}" for v in (values.min(), np.median(values), values.max()))
                yield f"| {name} | {len(values):,} | {shown} |"
        odd = [k for k in np.flatnonzero(self.test <= CHANCE) if self._alive()[k]]
        yield ""
        yield f"Connected and still at chance: {len(odd)}" + (":" if odd else ".")
        if odd:
            yield ""
            for k in odd[:10]:
                yield f"- `{self.space.to_string(rows[k : k + 1])[0]}` ({100 * self.test[k]:.2f} %)"

    def groups(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Return name -> which classes, by what the architectures are made of."""
        rows, alive = self.rows, self._alive()
        if self.plan.space == "nasbench201":
            yield "no path from input to output", ~alive
            convolutions = np.isin(rows, [CELL_OPERATIONS.index(f"nor_conv_{k}x{k}") for k in (1, 3)]).sum(axis=1)
            for n in range(7):
                yield f"connected, {n} convolution(s)", alive & (convolutions == n)
        else:
            identities = (rows == 0).sum(axis=1)
            for n in range(9):
                yield f"{n} identities of 8 layers", identities == n

    def _alive(self) -> NDArray[np.bool_]:
        if self.plan.space != "nasbench201":
            return np.ones(len(self.rows), dtype=bool)
        return self.space.encode(self.rows, "path").sum(axis=1) > 0

    def best(self) -> Iterator[str]:
        params = complexity.params(self.space, self.rows, **self.plan.sizes)
        yield "The best by mean test accuracy, in percent, with each seed's:"
        yield ""
        yield "| architecture | test | seeds | valid | parameters |"
        yield "|---|---|---|---|---|"
        for k in np.argsort(-self.test, kind="stable")[:5]:
            name = self.space.to_string(self.rows[k : k + 1])[0].replace("|", "\\|")
            seeds = ", ".join("-" if np.isnan(v) else f"{100 * v:.2f}" for v in self.accuracy[k, :, -1, TEST])
            yield f"| {name} | {100 * self.test[k]:.2f} | {seeds} | {100 * self.valid[k]:.2f} | {params[k]:,} |"
        chosen = [int(np.nanargmax(self.accuracy[:, k, -1, VALID])) for k in range(self.seeds)]
        found = 100 * self.test[chosen]
        yield ""
        yield (
            f"Who could look at the validation accuracy of one seed of every class would choose one with a mean test "
            f"accuracy of {found.mean():.2f} (seeds: {', '.join(f'{v:.2f}' for v in found)}); "
            f"the mean over the classes is {100 * self.test.mean():.2f}."
        )

    def time(self) -> Iterator[str]:
        known = self.epoch_s[~np.isnan(self.epoch_s)]
        if len(known):
            points = np.percentile(1e3 * known, (0, 25, 50, 75, 100))
            shown = " / ".join(f"{value:.1f}" for value in points)
            yield f"CPU milliseconds of one epoch of training alone (min / quartiles / max): {shown};"
            side = load_images(self.plan.images).train.images.shape[-1]
            flops = complexity.flops(self.space, self.rows, size=side, **self.plan.sizes)
            timed = ~np.isnan(self.epoch_s)
            yield f"rank correlation with multiply-adds {rank(self.epoch_s[timed], flops[timed]):.3f}."
            hours = self.seeds * self.epochs * known.sum() / 3600
            yield f"All trainings alone, without evaluation: {hours:.2f} CPU hours."
        else:
            yield "Seconds of an epoch: not measured yet."
        stacks = self.stack_s[:: self.plan.stack]
        if not np.isnan(stacks).all():
            trained = self.plan.stack * np.nan_to_num(stacks / stacks).sum()
            hours, each = np.nansum(stacks) / 3600, np.nansum(stacks) / min(trained, self.labels.done.sum())
            yield f"The build itself, in stacks and with evaluation: {hours:.2f} CPU hours, {each:.2f} s a training."

    # -- figure ------------------------------------------------------------------------------------------------------

    def draw(self, path: Path) -> None:
        """Write the distributions as one picture."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        ink, first, second = "#333333", "#2a6f97", "#d1495b"
        plt.rcParams.update({"font.size": 9, "axes.edgecolor": "#999999", "axes.labelcolor": ink, "text.color": ink})
        figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
        low = 100 * np.quantile(self.test, 0.02)
        dots = {"s": 3, "alpha": 0.25, "color": first, "linewidths": 0}

        axis = axes[0, 0]
        bins = np.linspace(0, 100, 101)
        axis.hist(100 * self.valid, bins, color=second, alpha=0.5, label="validation")
        axis.hist(100 * self.test, bins, color=first, alpha=0.6, label="test")
        axis.set(yscale="log", xlabel=f"accuracy after {self.epochs} epochs, %", ylabel="classes", title="Accuracies")
        axis.legend(frameon=False)

        axis = axes[0, 1]
        axis.scatter(100 * self.valid, 100 * self.test, **dots)
        axis.set(
            xlabel="validation, %", ylabel="test, %", title=f"Validation and test (ρ {rank(self.valid, self.test):.2f})"
        )
        axis.set(xlim=(low, 100), ylim=(low, 100))

        axis = axes[0, 2]
        if self.seeds > 1:
            one, two = (100 * self.accuracy[:, k, -1, TEST] for k in (0, 1))
            axis.scatter(one, two, **dots)
            axis.set(xlabel="test, seed 0, %", ylabel="test, seed 1, %", title=f"Two seeds (ρ {rank(one, two):.2f})")
            axis.set(xlim=(low, 100), ylim=(low, 100))
        else:
            axis.set_axis_off()

        axis = axes[1, 0]
        epochs = np.arange(1, self.epochs + 1)
        for part, colour, name in ((VALID, second, "validation"), (TEST, first, "test")):
            quartiles = 100 * np.quantile(self.mean[..., part], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
            axis.fill_between(epochs, quartiles[0], quartiles[4], color=colour, alpha=0.12, linewidth=0)
            axis.fill_between(epochs, quartiles[1], quartiles[3], color=colour, alpha=0.25, linewidth=0)
            axis.plot(epochs, quartiles[2], color=colour, label=name)
        axis.set(xlabel="epochs", ylabel="accuracy, %", title="Median, middle half, 5 to 95 %", xticks=epochs)
        axis.legend(frameon=False, loc="lower right")

        axis = axes[1, 1]
        if self.others:
            other = self.others[0]
            axis.scatter(100 * other.values, 100 * self.test, **dots)
            start = 100 * np.quantile(other.values, 0.02)
            axis.set(xlabel=f"{other.name}, %", ylabel="test on digits, %", xlim=(start, None), ylim=(low, 100))
            axis.set(title=f"Other images (ρ {rank(other.values, self.test):.2f})")
        else:
            axis.set_axis_off()

        axis = axes[1, 2]
        known = 1e3 * self.epoch_s[~np.isnan(self.epoch_s)]
        if len(known):
            axis.hist(known, 60, color=first)
            axis.set(xlabel="CPU ms of an epoch alone", ylabel="classes", title="Seconds")
        else:
            axis.set_axis_off()
        for axis in axes.flat:
            axis.spines[["top", "right"]].set_visible(False)
        figure.suptitle(f"{self.plan.name}: {len(self.rows):,} classes, {self.seeds} seed(s)")
        figure.savefig(path, dpi=100, metadata={"Software": None})
        plt.close(figure)

    def summary(self) -> dict[str, Any]:
        """Return the main numbers, JSON-ready."""
        pairs = combinations(range(self.seeds), 2)
        last = self.accuracy[:, :, -1]
        return {
            "table": self.plan.name,
            "classes": len(self.rows),
            "trainings": int(self.labels.done.sum()),
            "test_quartiles": np.percentile(self.test, (0, 25, 50, 75, 100)).tolist(),
            "spearman_valid_test": rank(self.valid, self.test),
            "spearman_seeds_test": [rank(last[:, a, TEST], last[:, b, TEST]) for a, b in pairs],
            "spearman_other": {one.name: rank(self.test, one.values) for one in self.others},
        }


def rank(a: Any, b: Any) -> float:
    """Return Spearman's correlation over the pairs that both have."""
    both = ~(np.isnan(a) | np.isnan(b))
    return float(spearmanr(a[both], b[both]).statistic) if both.sum() > 2 else float("nan")


def others(name: str, data: Path | None) -> list[Other]:
    """Return the labels from elsewhere that there are for the classes of a table, saying which are not."""
    plan = PLANS[name]
    space = plan.open_space()
    members = np.searchsorted(space.keys(plan.representatives), space.keys(space.representative(space.all())))

    def of_classes(title: str, genotypes: Genotypes, values: Floats) -> Other:
        mean = np.bincount(members[space.index(genotypes)], values, len(plan.representatives))
        return Other(title, mean / np.bincount(members[space.index(genotypes)], minlength=len(mean)))

    found = []
    if name == "digits201":
        for epochs in (200, 12):
            path = (data or Path()) / "nasbench201" / f"epochs{epochs}.csv.gz"
            if data is None or not path.is_file():
                print(f"left out: {path.name} of --data")
                continue
            frame = pd.read_csv(path)
            rows = space.from_string(frame["arch_str"].tolist())
            columns = ["cifar10_test_accuracy"] + (["cifar100_test_accuracy"] if epochs == 200 else [])
            for column in columns:
                title = column.removesuffix("_test_accuracy").upper().replace("CIFAR", "CIFAR-")
                found.append(of_classes(f"{title} test, {epochs} epochs", rows, frame[column].to_numpy() / 100))
        try:
            table = open_benchmark("nasbench201-cifar10")
            values = table.query(space.all(), "valid", epochs=200)
            found.append(of_classes("CIFAR-10 validation, 200 epochs (built-in table)", space.all(), values))
        except MissingDependencyError as error:
            print(f"left out: nasbench201-cifar10 ({error})")
    else:
        path = (data or Path()) / "nasbench_macro" / "nas-bench-macro_cifar10.json"
        if data is None or not path.is_file():
            print(f"left out: {path.name} of --data")
        else:
            table = import_macro(path, ImportOptions())[0].table
            values = np.asarray(table.columns[str(table.info.report).partition(":")[0]])
            found.append(of_classes("CIFAR-10 test", table.genotypes, values.reshape(len(values), -1).mean(axis=1)))
    return found


def page(cards: list[Card], figures: dict[str, str]) -> Iterator[str]:
    """Return docs/digits.md, line by line."""
    plan = cards[0].plan
    images, recipe = load_images(plan.images), Recipe(**plan.recipe)
    sizes = [len(part) for part in (images.train, images.valid, images.test)]
    assert all(card.plan.images == plan.images and card.plan.recipe == plan.recipe for card in cards)
    yield "# Tables measured on digits"
    yield ""
    yield "<!-- Written by benchmarks/reproduce/digits_card.py: change the text there. -->"
    yield ""
    yield (
        "`digits201` and `digits-macro` are tables that nasplug measured itself, by training every architecture of "
        "two spaces on images that come with scikit-learn. They hold what published tables often lack: every epoch of "
        "every training, validation and test apart, several training seeds, and images small enough that a supernet "
        "trains on the very same ones in seconds. They say how searches behave, not which network is good on "
        "photographs."
    )
    yield ""
    yield "## How it was measured"
    yield ""
    yield (
        f"- Images: scikit-learn's digits, {sum(sizes):,} images of 8x8 pixels in {images.classes} classes (a copy of "
        f"the test part of UCI's Optical Recognition of Handwritten Digits, CC BY 4.0). Split once, class by class: "
        f"{sizes[0]} to train on, {sizes[1]} for validation, {sizes[2]} for test (BLAKE2b `{images.checksum()}`). One "
        f"image of validation is {100 / sizes[1]:.3f} points, of test {100 / sizes[2]:.3f}. Pixels have mean 0 and "
        f"deviation 1 over the training part; there is no augmentation."
    )
    yield (
        f"- Recipe: {recipe.epochs} epochs of SGD, batches of {recipe.batch_size}, learning rate up to "
        f"{recipe.learning_rate:g} (linear over the first tenth of the steps, then a cosine to 0), Nesterov momentum "
        f"{recipe.momentum:g}, weight decay {recipe.weight_decay:g}, cross entropy. The labels after fewer epochs are "
        f"points of the same training, whose learning rate is not yet 0."
    )
    yield (
        "- Seeds: a training seed sets the first weights and the order of the images; the split is always the same. "
        "Networks of one seed see the same batches."
    )
    yield (
        f"- Stacks: {plan.stack} networks pass through the layers together, as one grouped network "
        "(`spaces/modules/stacked.py`), which changes nothing but the order in which sums are rounded. Some trainings "
        "amplify that, as they amplify any change in the seventh digit of a weight: "
        "[stacked_training.txt](../benchmarks/reproduce/output/stacked_training.txt) repeats 20 of them alone, says "
        "how far the labels are from the table's, and how much faster stacks are. The same stack on the same machine "
        "gives the same bits."
    )
    yield (
        "- Parameters and multiply-adds are each architecture's own; labels are those of the class's lightest member, "
        "which alone was trained. `train_s` is the CPU time of so many epochs of a network that trains alone, without "
        "evaluation, on one core: the median of five steps times the steps of an epoch."
    )
    yield (
        f"- Made with Python {platform.python_version()}, torch {version('torch')}, numpy {version('numpy')}, "
        f"scikit-learn {version('scikit-learn')}; {hardware()}."
    )
    yield ""
    yield "Measure them again, in hours, with as many stops as wanted: `nasplug data build digits201 --jobs 2`."
    yield ""
    for card in cards:
        lines = list(card.lines())
        yield from lines[:2]
        if card.plan.name in figures:
            yield f"![Distributions of {card.plan.name}]({figures[card.plan.name]})"
            yield ""
        yield from lines[2:]
    yield "## Known limits"
    yield ""
    yield (
        "- Small networks on small images for few epochs: most architectures end within a few points of each other, "
        "and the best tenth is hard to tell apart from one seed. Look at the correlations in the right-hand column."
    )
    yield (
        "- Few images: a difference of less than the standard deviation between seeds says nothing about two networks. "
        "What one seed's validation prefers is in part luck, which the report on test, over all seeds, does not share."
    )
    yield (
        "- Members of a class share labels. As networks with all their parts they differ a little: a convolution on a "
        "node that is always zero adds a constant a channel."
    )
    yield (
        "- Seconds are CPU seconds of one core that other programs were using too: right on average, noisy for one "
        "architecture, and bound by the cost of calling layers more than by arithmetic."
    )
    yield "- The split into training, validation and test is one; labels do not say how much another would change."


def hardware() -> str:
    """Return the processor and its cores."""
    return f"{os.cpu_count()} cores of {processor() or platform.machine()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="append", choices=sorted(PLANS), help="which; all that there are if left out")
    parser.add_argument("--build", action="append", default=[], metavar="NAME=DIR", help="a build instead of the file")
    parser.add_argument("--data", type=Path, help="folder of the reference tables")
    parser.add_argument("--docs", type=Path, help="folder to write digits.md and its figures to")
    parser.add_argument("--out", type=Path, default=Path("digits_card"))
    parser.add_argument("--seeds", type=int, help="accepted for uniformity; the tables have theirs")
    parser.add_argument("--jobs", type=int, help="accepted for uniformity")
    parser.add_argument("--quick", action="store_true", help="accepted for uniformity; this takes seconds")
    options = parser.parse_args()
    builds = dict(text.split("=", 1) for text in options.build)
    cards = []
    for name in options.table or list(PLANS):
        try:
            labels = load(name, Path(builds[name]) if name in builds else None)
            cards.append(Card(labels, others(name, options.data)))
        except DataError as error:
            print(f"left out: {name} ({error})")
    if not cards:
        print("nothing to describe", file=sys.stderr)
        return 2
    folder = options.docs or options.out
    folder.mkdir(parents=True, exist_ok=True)
    figures = {card.plan.name: f"{card.plan.name}.png" for card in cards}
    for card in cards:
        card.draw(folder / figures[card.plan.name])
    text = "\n".join(page(cards, figures)) + "\n"
    print(text)
    (folder / "digits.md").write_text(text, encoding="utf-8")
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [card.summary() for card in cards]
    (options.out / "summary.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

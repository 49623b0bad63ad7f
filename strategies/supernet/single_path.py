"""Single-Path NAS as a strategy. Imports no torch: its options are checked before anything is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.errors import InputError
from nasplug.images import Images
from nasplug.spaces import Genotypes, NASBenchMacro, Space
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.layout import MACRO_SMALL, SINGLE_PATH_SMALL
from nasplug.spaces.nasbench_macro import STAGES
from nasplug.spaces.subspace import Subspace
from nasplug.strategies.base import run_seed
from nasplug.strategies.history import History
from nasplug.strategies.supernet.priced import Predict, Price
from nasplug.strategies.supernet.run import require_torch
from nasplug.strategies.supernet.strategy import SizedStrategy

if TYPE_CHECKING:
    from torch import nn

    from nasplug.strategies.supernet.method import Method

__all__ = ["SinglePathNAS"]

_SMALL: Mapping[str, Mapping[str, Any]] = {
    "nasbench-macro": MACRO_SMALL,
    "single-path-digits": {},
    "single-path-imagenet": SINGLE_PATH_SMALL,
    "single-path-imagenet-se": SINGLE_PATH_SMALL,
}
"""Sizes of networks for images of up to 16x16 pixels, by space."""

_EPOCHS_SMALL, _EPOCHS_FULL = 20, 8


@dataclass(frozen=True, kw_only=True)
class SinglePathNAS(SizedStrategy):
    """Single-Path NAS: one over-sized kernel a layer, cut to size by trained thresholds under a price on cost.

    Source: Stamoulis et al., arXiv:1904.02877, and the authors' code; for the price arXiv:1907.00959. Weights and
    thresholds learn together from the same images; in the warm-up there is no price and decisions are dropped at
    random. Every epoch is a stage; the first proposal comes behind the warm-up.

    What a network may cost is the budget of the space (``--max-latency`` and ``--cost-model``,
    :func:`nasplug.cost_models.constraint.affordable`), or ``target``; lambda is then found during the search, and what
    a stage selects costs at most that, and little less. With ``trade_off`` lambda stays as it is given, and a stage
    selects what is decided at its end. Behind that, proposals are the networks whose choices were taken most often, of
    all in a space that can be enumerated, else one change away; then random ones, which keep the target too.

    Differs from the published code: norms are divided by the root of the size of their group, without which the
    thresholds do not learn (``faithful`` leaves them as they were); any cost model will do, and no entry of a table is
    approximated; lambda counts on the log of the cost, without a hidden factor of 1000; SGD and Adam instead of
    RMSProp; thresholds do not decay; half the epochs are a warm-up, published are five of eight; no average of weights,
    no dropout, batches of 64; with a target, decisions are those taken most often lately that meet it, not the last.

    Args:
        target: what a network may cost, in the unit of the cost model.
        trade_off: lambda, fixed; None has it found for the target, and is 1 where there is none.
        cost_model: a registered one that is ready, such as ``pixel1``; None takes the budget's, and where there is
            none, millions of multiply-adds of the networks trained.
        epochs: None takes 20 for small networks and the published 8 for full ones.
        warm_up: share of the epochs without a price.
        batch_size: images a step.
        learning_rate: of the weights, at the start of a cosine.
        threshold_rate: of the thresholds.
        share: of the images that weights and thresholds are trained on; the others report.
        faithful: compare plain norms with thresholds, as published.
        skip_resizing: whether NAS-Bench-Macro's layers that resize may be skipped; as published, the first layer of a
            stage never is, and 1,944 of its 6,561 networks can be selected.
        export: an ONNX file, which the network selected in the end is written to, weights included; the first
            proposal then waits for the end.

    Raises:
        InputError: a target beyond the cheapest or dearest network, a target or budget beside a fixed lambda, a cost
            model of another space or one that is not fitted, a number out of range, an export into no folder; while
            training, a fixed lambda at which every layer that can be skipped is.
        UnknownNameError: another cost model.
    """

    target: float | None = None
    trade_off: float | None = None
    cost_model: str | None = None
    epochs: int | None = None
    warm_up: float = 0.5
    batch_size: int = 64
    learning_rate: float = 0.05
    threshold_rate: float = 0.02
    share: float = 0.8
    faithful: bool = False
    skip_resizing: bool = False
    export: str | None = None

    spaces: ClassVar = tuple(_SMALL)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epochs is not None and self.epochs < 2) or self.batch_size < 2:
            raise InputError(
                f"a search takes at least 2 epochs, on batches of at least 2 images, got {self.epochs} and "
                f"{self.batch_size}"
            )
        if not (0 <= self.warm_up < 1 and self.learning_rate > 0 and self.threshold_rate > 0):
            raise InputError(
                "expected a share of warm-up of at least 0 and below 1, and rates above 0, got "
                f"{self.warm_up}, {self.learning_rate} and {self.threshold_rate}"
            )
        if self.trade_off is not None and not 0 <= self.trade_off < float("inf"):
            raise InputError(f"a trade-off is a finite number of at least 0, got {self.trade_off}")
        if self.trade_off is not None and (self.target is not None or self.bound is not None):
            raise InputError(
                f"with trade_off={self.trade_off:g} lambda stays, and nothing is aimed at; leave it out, or the target "
                "or budget"
            )
        if self.export is not None and not Path(self.export).absolute().parent.is_dir():
            raise InputError(f"cannot export to {self.export}: there is no folder {Path(self.export).parent}; make it")
        if self.target is not None and self.bound is not None:
            raise InputError(
                f"the budget of {self.bound.at_most:g} is the target; leave target={self.target:g} out, or the budget"
            )
        if self.cost_model is not None and self.bound is not None:
            raise InputError(
                f"the budget has its own cost model; leave cost_model={self.cost_model} out, or the budget"
            )

    # -- cost --------------------------------------------------------------------------------------------------------

    def price(self, images: Images) -> Price:
        """Return what networks cost."""
        return Price(self.reachable, self._predict(images))

    @property
    def reachable(self) -> Space:
        """What its supernet holds of the space."""
        whole = self.whole_space
        if not isinstance(whole, NASBenchMacro) or self.skip_resizing:
            return whole
        first = [sum(STAGES[:i]) for i in range(len(STAGES))]

        def kept(genotypes: Genotypes) -> NDArray[np.bool_]:
            return np.all(genotypes[:, first] > 0, axis=1)

        return Subspace(whole, kept, "layers that resize are kept")

    def _predict(self, images: Images) -> Predict:
        if self.bound is not None:
            return self.bound.cost
        if self.cost_model is not None:
            model = registry.configure("cost model", self.cost_model, self.whole_space)
            if not model.fitted:
                raise InputError(
                    f"cost model {self.cost_model!r} has to be fitted first ('nasplug cost-model fit'); give the file "
                    "as --cost-model with --max-latency, or name one that is ready, such as pixel1"
                )
            return model.predict
        sizes = {**self.sizes(images), "classes": images.classes, "in_channels": images.channels}
        side = images.train.images.shape[-1]
        space = self.whole_space
        return lambda genotypes: complexity.flops(space, genotypes, size=side, **sizes) / 1e6

    def aimed(self, price: Price) -> float | None:
        """Return what a network may cost, None where lambda alone rules; raises InputError for what none costs."""
        if self.trade_off is not None or (self.target is None and self.bound is None):
            return None
        cheapest, dearest = price.range(np.random.default_rng(0))
        if self.bound is not None:
            if self.bound.at_most < cheapest:
                raise InputError(
                    f"the budget {self.bound.at_most:g} is out of range: networks of {price.space.name!r} cost "
                    f"between {cheapest:.4g} and {dearest:.4g}"
                )
            return min(float(self.bound.at_most), dearest)
        assert self.target is not None
        if not cheapest <= self.target <= dearest:
            raise InputError(
                f"the target {self.target:g} is out of range: networks of {price.space.name!r} cost between "
                f"{cheapest:.4g} and {dearest:.4g}"
            )
        return self.target

    # -- the run -----------------------------------------------------------------------------------------------------

    def sizes(self, images: Images) -> dict[str, Any]:
        """Return the sizes of the networks."""
        return dict(_SMALL[self.whole_space.name]) if self.is_small(images) else {}

    def _facts(self, images: Images, seed: int) -> dict[str, Any]:
        facts = super()._facts(images, seed)
        facts["options"] |= {"export": None}
        price = self.price(images)
        some = self.whole_space.sample(256, np.random.default_rng(0))
        costs = hashlib.blake2b(price.of(some).tobytes(), digest_size=8).hexdigest()
        return facts | {"costs": costs, "aim": self.aimed(price)}

    def _stages(self, images: Images) -> int:
        return self.epochs or (_EPOCHS_SMALL if self.is_small(images) else _EPOCHS_FULL)

    def _method(self, images: Images, seed: int) -> Method:
        from nasplug.spaces.modules.seeding import seeded
        from nasplug.spaces.modules.single_path import Supernet
        from nasplug.strategies.supernet.data import halves
        from nasplug.strategies.supernet.superkernels import Aim, Recipe, SuperkernelTraining

        data = halves(images, share=self.share, device=self.device)
        sizes = {**self.sizes(images), "classes": data.classes, "in_channels": data.channels}
        with seeded(seed):
            net = Supernet(self.whole_space, faithful=self.faithful, skip_resizing=self.skip_resizing, **sizes)
        epochs = self._stages(images)
        recipe = Recipe(
            epochs,
            min(round(self.warm_up * epochs), epochs - 1),
            self.batch_size,
            self.learning_rate,
            threshold_rate=self.threshold_rate,
        )
        price = self.price(images)
        target = self.aimed(price)
        trade_off = self.trade_off if self.trade_off is not None else 1.0
        return SuperkernelTraining(net, data, price, recipe, Aim(trade_off, target), seed)

    # -- the winner --------------------------------------------------------------------------------------------------

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        if self.export is not None:
            self._exported(run_seed(rng), Path(self.export))
        return super()._candidates(history, n, rng)

    def _rest(self, rng: np.random.Generator) -> Space:
        price = self.price(self.data_set)
        target = self.aimed(price)
        if target is None or self.bound is not None:
            return self.space
        run = self.run(run_seed(rng))
        selection = run.selection(run.stages - 1)
        assert selection is not None
        known = selection.ranking[:64]
        return Subspace(
            self.space, lambda rows: price.of(rows) <= target, f"cost <= {target:g}", known[self.space.valid(known)]
        )

    def _exported(self, seed: int, path: Path) -> None:
        """Write the network of a seed's run, unless the file holds it."""
        require_torch()
        from nasplug.spaces.modules.onnx_files import note_of, require_onnx, write_onnx

        require_onnx()  # before anything is trained
        selected = self.whole_space.to_string(self.selected(seed)[None])[0]
        note = f"{self.run(seed).folder.name} {selected}"
        if note_of(path) != note:
            image = self.data_set.train.images.shape[1:]
            write_onnx(self.winner(seed), path, (int(image[0]), int(image[1]), int(image[2])), note=note)

    def selected(self, seed: int) -> NDArray[np.int64]:
        """Return the network that the last stage of a seed's run selects, ``(s,)``, training what is missing."""
        run = self.run(seed)
        selection = run.selection(run.stages - 1)
        assert selection is not None
        return selection.ranking[0]

    def winner(self, seed: int) -> nn.Module:
        """Return that network in torch, with the weights it has in the supernet, in evaluation mode."""
        from nasplug.spaces.modules.recalibration import recalibrate
        from nasplug.spaces.modules.superkernel_export import extract
        from nasplug.strategies.supernet.superkernels import SuperkernelTraining

        genotype = self.selected(seed)
        method = self.run(seed).method()
        assert isinstance(method, SuperkernelTraining)
        net = extract(method.net, genotype)
        recalibrate(net, method.batches(4))
        return net

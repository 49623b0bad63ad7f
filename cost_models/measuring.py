"""Measuring latencies on this machine: one forward pass of a network, repeated until the number can be trusted.

A measurement is a median of blocks. A block is as many passes as take ``BLOCK_S``, and its value their mean, so that
the clock's grain does not matter; a burst of other work spoils a block or two and not the median. Where the blocks
disagree by more than asked, they are measured again, and in the end the row says that it is noisy.

Shapes: n architectures.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.measurements import BLOCK_S, COLUMNS, Content, Measurement, append, mend, read_content
from nasplug.errors import DataError, InputError
from nasplug.machine import processor
from nasplug.packages import require
from nasplug.spaces import Genotypes, Space

__all__ = ["Protocol", "busy", "drift", "machine_name", "measure"]

WARM_UP_S = 0.05

Engine = Literal["eager", "onnxruntime"]


@dataclass(frozen=True)
class Protocol:
    """How latencies are measured; part of every row.

    Attributes:
        engine: torch as it is, or the network exported to ONNX and run by ONNX Runtime.
        device: of torch for ``eager``; ``cpu`` or ``cuda``.
        threads: that a pass may use on a CPU.
        batch: images a pass.
        side: pixels of an image's side.
        channels: of an image.
        classes: outputs of the network.
        sizes: what else the space's network takes, such as ``channels`` and ``cells``.
        blocks: blocks of a measurement.
        spread: largest accepted spread of the blocks: half the middle half's width, over the median.
        attempts: how often a measurement is begun again where its spread is too wide.
    """

    engine: Engine = "eager"
    device: str = "cpu"
    threads: int = 1
    batch: int = 1
    side: int = 32
    channels: int = 3
    classes: int = 10
    sizes: Mapping[str, Any] = field(default_factory=dict)
    blocks: int = 7
    spread: float = 0.05
    attempts: int = 4

    def __post_init__(self) -> None:
        counts = (self.threads, self.batch, self.side, self.channels, self.classes, self.attempts)
        if min(counts) < 1 or self.blocks < 3 or not self.spread > 0:
            raise InputError(f"a measurement has counts of at least 1, 3 blocks and a spread above 0, got {self}")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device) or (self.engine != "eager" and self.device != "cpu"):
            raise InputError(f"expected device cpu, or for eager cuda or cuda:0, got {self.device!r} for {self.engine}")
        for name, own in (("classes", "classes"), ("in_channels", "channels")):
            if name in self.sizes:
                raise InputError(
                    f"{name!r} is not one of the sizes; give it by --{own}, in Python by Protocol({own}=...)"
                )

    def text(self) -> str:
        """Return what makes two measurements comparable, for the ``protocol`` column."""
        where = (
            f"{self.device}, {self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else self.device
        )
        sizes = "".join(f", {key} {value}" for key, value in sorted(self.sizes.items()))
        classes = "" if self.classes == 10 else f", {self.classes} classes"
        return f"{self.engine} on {where}, {self.batch}x{self.channels}x{self.side}x{self.side}{classes}{sizes}"


def measure(
    space: Space,
    genotypes: Genotypes,
    path: Path,
    protocol: Protocol,
    *,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Measurement]:
    """Measure architectures and append each to a CSV file at once; those that the file holds are yielded from it.

    A last line that a killed run left unfinished is cut off before the first row is appended, and only then.

    Args:
        space: one with torch networks.
        genotypes: ``(n, s)``.
        path: of the file; made with a heading where it is missing.
        protocol: how.
        seed: of the weights, which do not matter to a clock but should be ordinary numbers.
        clock: seconds.

    Raises:
        InputError: a space without networks, a CUDA device that torch does not see, sizes that are none.
        UnknownNameError: a size that the space's networks do not take.
        DataError: a file of another protocol or machine, or one that cannot be read or written.
        MissingDependencyError: torch, or the engine's package, is not installed.
    """
    require("torch", purpose="measuring networks", extra="torch")
    from nasplug.spaces.modules.build import require_sizes

    require_sizes(space, protocol.sizes)
    genotypes = space.check(genotypes)
    strings = space.to_string(genotypes)
    machine, held = machine_name(protocol.device), {}
    content = read_content(path) if path.exists() else Content()
    if content.columns != COLUMNS:
        raise DataError(
            f"{path} cannot be continued, its columns are {', '.join(content.columns)} and not those of a file that "
            "was measured here: choose another file"
        )
    for row in content.rows:
        theirs, ours = (row.space, row.protocol, row.machine), (space.name, protocol.text(), machine)
        if theirs != ours:
            raise DataError(
                f"{path} holds measurements of {', '.join(theirs)}; these would be of {', '.join(ours)}: "
                "choose another file"
            )
        held[row.architecture] = row
    if not held.keys() >= set(strings):
        mend(path, content)
    with _threads(protocol.threads):
        for string, genotype in zip(strings, genotypes, strict=True):
            if string not in held:
                run = _runner(space, genotype, protocol, seed)
                held[string] = _measured((space.name, string), run, protocol, machine, clock)
                append(path, held[string])
            yield held[string]


def drift(
    space: Space,
    row: Measurement,
    protocol: Protocol,
    *,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Measure a row's architecture once more and return how much longer it takes now, as a share of the row's latency.

    Blocks of one measurement may agree on a machine that heats up and slows down from one network to the next; at the
    end of a run, the first network tells. Nothing is written. Raises MissingDependencyError as :func:`measure`.
    """
    require("torch", purpose="measuring networks", extra="torch")
    (genotype,) = space.from_string([row.architecture])
    with _threads(protocol.threads):
        run = _runner(space, genotype, protocol, seed)
        again = _measured((row.space, row.architecture), run, protocol, row.machine, clock)
    return again.latency_ms / row.latency_ms - 1


def _measured(
    what: tuple[str, str], run: Callable[[], object], protocol: Protocol, machine: str, clock: Callable[[], float]
) -> Measurement:
    load = _load()
    passes = _warm_up(run, clock)
    a_block = max(1, round(BLOCK_S / passes[1]))
    best: tuple[float, float] | None = None
    total, attempt = passes[0], 0
    while attempt < protocol.attempts and (best is None or best[0] > protocol.spread):
        attempt += 1
        blocks = []
        for _ in range(protocol.blocks):
            started = clock()
            for _ in range(a_block):
                run()
            blocks.append((clock() - started) / a_block * 1e3)
        total += a_block * protocol.blocks
        low, middle, high = statistics.quantiles(blocks, n=4)
        best = min(best or (np.inf, 0.0), ((high - low) / 2 / middle, middle))
    assert best is not None
    return Measurement(
        *what,
        latency_ms=best[1],
        spread=best[0],
        noisy=best[0] > protocol.spread,
        attempts=attempt,
        passes=total,
        protocol=protocol.text(),
        machine=machine,
        software=_software(protocol.engine),
        load=load,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _warm_up(run: Callable[[], object], clock: Callable[[], float]) -> tuple[int, float]:
    """Run for ``WARM_UP_S`` and return the passes and the seconds of the quickest."""
    began, passes, quickest = clock(), 0, np.inf
    while passes < 2 or clock() - began < WARM_UP_S:
        started = clock()
        run()
        quickest, passes = min(quickest, clock() - started), passes + 1
    return passes, max(float(quickest), 1e-9)


# -- engines ---------------------------------------------------------------------------------------------------------


def _runner(space: Space, genotype: NDArray[np.int64], protocol: Protocol, seed: int) -> Callable[[], object]:
    """Return what runs one forward pass and waits for its end."""
    import torch

    from nasplug.spaces.modules.build import network

    net = network(
        space, genotype, classes=protocol.classes, in_channels=protocol.channels, seed=seed, **protocol.sizes
    ).eval()
    shape = (protocol.batch, protocol.channels, protocol.side, protocol.side)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if protocol.engine == "onnxruntime":
        return _onnx_runner(net, images, protocol.threads)
    net, images = net.to(protocol.device), images.to(protocol.device)

    def run() -> object:
        with torch.inference_mode():
            out = net(images)
        if protocol.device != "cpu":
            torch.cuda.synchronize()
        return out

    return run


def _onnx_runner(net: Any, images: Any, threads: int) -> Callable[[], object]:
    require("onnx", "onnxruntime", purpose="the engine", extra="onnx")  # torch's exporter needs the first
    import onnxruntime
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with warnings.catch_warnings():  # the newer exporter takes seconds a network, and these are plain ones
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(net, (images,), path, input_names=["images"], output_names=["logits"], dynamo=False)
        exported = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    feed = {"images": images.numpy()}
    return lambda: session.run(None, feed)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give torch ``count`` threads, and where the system can, keep this process to as many cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if cores:
        os.sched_setaffinity(0, sorted(cores)[-count:])
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cores:
            os.sched_setaffinity(0, cores)


# -- where and among what --------------------------------------------------------------------------------------------


def busy() -> str | None:
    """Return a sentence where other work takes more than half a core's time, None where the machine is quiet."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
    if load <= 0.5:
        return None
    return f"other work keeps {load:.1f} of {os.cpu_count()} cores busy; latencies will be too long and spread"


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except (AttributeError, OSError):
        return ""


def machine_name(device: str) -> str:
    """Return the processor or graphics card that ``device`` means; raises InputError for a card torch does not see."""
    if device != "cpu":
        import torch

        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= seen:
            raise InputError(f"torch sees {seen} CUDA devices here, not {device!r}; measure on another, or on cpu")
        return torch.cuda.get_device_name(device)
    return processor() or platform.machine()


def _software(engine: Engine) -> str:
    packages = ("torch",) if engine == "eager" else ("torch", "onnxruntime")
    return ", ".join(f"{package} {version(package)}" for package in packages)

"""Deployments: the answers of a trained generator with what they cost and how well they do, ready to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasplug.errors import InputError
from nasplug.files import write_whole
from nasplug.spaces.modules.counting import count_multiply_adds, count_params
from nasplug.spaces.modules.elastic import SPACE
from nasplug.spaces.modules.onnx_files import write_onnx
from nasplug.strategies.supernet.data import Part
from nasplug.strategies.supernet.elastic_training import ElasticTraining
from nasplug.strategies.supernet.generator import Requests
from nasplug.strategies.supernet.tasks import Tasks

__all__ = ["Deployment", "deploy", "write"]


@dataclass(frozen=True, eq=False)
class Deployment:
    """One request and its answer.

    Attributes:
        task: its name.
        classes: of it, ascending; the network's outputs.
        kind: of the budget.
        budget: what may be spent.
        met: whether the answer keeps to it; where none can, the answer is the cheapest network.
        genotype: the answer, ``(s,)``.
        architecture: its string.
        predicted: cost by the model that the generator knows.
        measured: multiply-adds or parameters counted on the network; None for latencies.
        split: whose images the accuracy is of.
        accuracy: on the task's images of that split, a fraction.
        network: the answer in torch, calibrated, with an output a class.
    """

    task: str
    classes: tuple[int, ...]
    kind: str
    budget: float
    met: bool
    genotype: NDArray[np.int64]
    architecture: str
    predicted: float
    measured: float | None
    split: str
    accuracy: float
    network: nn.Module = field(repr=False)


def deploy(
    method: ElasticTraining,
    tasks: Tasks,
    names: Sequence[str],
    budgets: Sequence[float],
    kind: str,
    part: Part | None = None,
) -> list[Deployment]:
    """Return the deployments of every task with every budget, task by task, from one pass of the generator.

    Args:
        method: trained.
        tasks: where the names are known.
        names: of tasks.
        budgets: above zero.
        kind: of the budgets, one that the generator knows.
        part: images that accuracies are of; by default the selection half, which the generator has learnt from.

    Raises: InputError for another kind; UnknownNameError for another task; as :meth:`Generator.answer`.
    """
    kinds = [cost.name for cost in method.generator.costs]
    if kind not in kinds:
        raise InputError(f"the generator knows budgets of {', '.join(kinds)}, not {kind!r}")
    masks = np.repeat([tasks.mask(name) for name in names], len(budgets), axis=0)
    wanted = np.tile(np.asarray(budgets, dtype=np.float64), len(names))
    answers = method.generator.answer(Requests(masks, wanted, np.full(len(wanted), kinds.index(kind))))
    strings = SPACE.to_string(answers.genotypes)
    image = tuple(method.data.selection.images.shape[1:])
    found = []
    for i, (mask, genotype) in enumerate(zip(masks, answers.genotypes, strict=True)):
        net = method.deployed(genotype, mask)
        counted = {"flops": count_multiply_adds(net, image), "params": count_params(net)}
        found.append(
            Deployment(
                task=names[i // len(budgets)],
                classes=tuple(np.flatnonzero(mask).tolist()),
                kind=kind,
                budget=float(wanted[i]),
                met=bool(answers.met[i]),
                genotype=genotype,
                architecture=strings[i],
                predicted=float(answers.costs[i]),
                measured=float(counted[kind]) if kind in counted else None,
                split=(part or method.data.selection).name,
                accuracy=method.accuracy_of(net, mask, part),
                network=net,
            )
        )
    return found


def write(method: ElasticTraining, deployments: Sequence[Deployment], folder: Path, *, onnx: bool = True) -> list[Path]:
    """Write every deployment's network, calibrated, as ``NN-task.pt`` and ``NN-task.onnx``; return the files.

    A ``.pt`` file holds ``architecture``, ``classes``, the ``weights`` of
    :func:`nasplug.spaces.modules.elastic.network`, the ``sizes`` to call it with and the shape of an ``image``; it
    loads with ``weights_only``.

    Raises: MissingDependencyError for ONNX without its packages; InputError where ONNX Runtime disagrees; DataError
        where the folder cannot be written.
    """
    image = tuple(method.data.selection.images.shape[1:])
    assert len(image) == 3
    files = []
    for i, one in enumerate(deployments):
        path = folder / f"{i:02d}-{''.join(c if c.isalnum() else '_' for c in one.task)}.pt"
        content = {
            "architecture": one.architecture,
            "classes": list(one.classes),
            "sizes": {"classes": len(one.classes), "in_channels": image[0], **method.net.sizes},
            "image": list(image),
            "weights": {name: value.cpu() for name, value in one.network.state_dict().items()},
        }
        write_whole(path, partial(torch.save, content))
        files.append(path)
        if onnx:
            write_onnx(one.network, path.with_suffix(".onnx"), image)
            files.append(path.with_suffix(".onnx"))
    return files

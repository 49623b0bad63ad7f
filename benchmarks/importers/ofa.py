"""The original files of once-for-all that make ``ofa-imagenet-surrogate``: models, not tables.

- ``accuracy_predictor.pth``: weights that ``torch.save`` wrote before torch 1.6; read here without torch, names of
  code in it refused.
- ``note10_lookup_tables/``: one YAML file a resolution, ``224_lookup_table.yaml``, of layer -> count, mean (ms), std.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import yaml
from numpy.typing import NDArray

from nasplug.benchmarks.importers import common
from nasplug.benchmarks.ofa_surrogate import FORMS, LAYERS, LEAST_RESOLUTION
from nasplug.errors import DataError
from nasplug.spaces.ofa_mobilenetv3 import (
    BLOCKS,
    EXPANSIONS,
    HARD_SWISH,
    HEAD,
    KERNELS,
    RESOLUTIONS,
    SQUEEZE,
    STAGES,
    STEM,
    STRIDES,
    WIDTHS,
)
from nasplug.unpickling import load_pickle

__all__ = ["PREDICTOR_NAME", "TABLE_NAME", "read_note10_tables", "read_predictor"]

PREDICTOR_NAME = re.compile(r"acc(uracy)?_predictor.*\.pth")
TABLE_NAME = re.compile(r"(\d{3})_lookup_table\.yaml", re.ASCII)
MAX_YAML_BYTES = 2**20
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


# -- the accuracy predictor ------------------------------------------------------------------------------------------


class _FloatStorage:
    """Stands for the type of a tensor's numbers; never made."""


class _Tensor:
    """What the file says of a tensor: which storage, and how it lies in it."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


def read_predictor(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return ``weight_0`` to ``weight_3`` ``(in, out)`` and ``bias_0`` to ``bias_3`` of the published MLP.

    Raises: DataError for a missing or damaged file, one that asks for code, or another network.
    """
    try:
        with path.open("rb") as stream:
            tensors, storages = _read_legacy(stream, str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    arrays = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(LAYERS)):
        weight = _values(tensors.get(f"{2 * layer}.weight"), storages, (fan_out, fan_in), path)
        arrays[f"weight_{layer}"] = np.ascontiguousarray(weight.T)
        arrays[f"bias_{layer}"] = _values(tensors.get(f"{2 * layer}.bias"), storages, (fan_out,), path)
    return arrays


def _read_legacy(stream: BinaryIO, what: str) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Return the tensors of a file and the numbers behind them: five pickles, then the storages one by one."""
    if load_pickle(stream, what, {}) != _TORCH_MAGIC:
        raise DataError(f"{what} is not the published accuracy predictor, which torch.save wrote in its first format")
    for _ in range(2):
        load_pickle(stream, what, {})
    names = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch", "FloatStorage"): _FloatStorage,
    }
    tensors = load_pickle(stream, what, names, persistent=lambda pid: pid)
    keys = load_pickle(stream, what, {})
    if not isinstance(tensors, dict) or not isinstance(keys, list) or len(keys) > 2 * len(LAYERS):
        raise DataError(f"{what} does not hold the weights of the published accuracy predictor")
    storages = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        data = stream.read(4 * count) if count <= 10**6 else b""
        if len(data) != 4 * count:
            raise DataError(f"{what} is truncated, or larger than the published accuracy predictor; get it again")
        storages[str(key)] = np.frombuffer(data, "<f4")
    return tensors, storages


def _values(
    tensor: Any, storages: dict[str, NDArray[np.float32]], shape: tuple[int, ...], path: Path
) -> NDArray[np.float32]:
    """Return the numbers of a tensor of this shape that fills its storage, as all of the published file do."""
    storage = tensor.storage if isinstance(tensor, _Tensor) else None
    key = str(storage[2]) if isinstance(storage, tuple) and len(storage) > 2 else ""
    whole = (0, shape, (shape[1], 1) if len(shape) == 2 else (1,))
    if (
        key not in storages
        or (tensor.offset, tensor.size, tensor.stride) != whole
        or storages[key].size != np.prod(shape)
    ):
        raise DataError(f"{path} is not the published accuracy predictor: it has no layer {shape} at its place")
    values: NDArray[np.float32] = storages[key].reshape(shape).astype(np.float32)
    return values


# -- the Note10 tables -----------------------------------------------------------------------------------------------


def read_note10_tables(folder: Path) -> dict[str, NDArray[Any]]:
    """Return ``resolutions`` ``(r,)``, ``blocks_ms`` ``(r, 20, 9)`` and ``rest_ms`` ``(r,)``.

    A block's forms are kernel 3, 5, 7 times expansion 3, 4, 6, the expansion fastest; the rest is what every network
    has: the first convolution and the block behind it, the final expansion, pooling, mixing and classifier.

    Raises: DataError for a missing or damaged file, a layer without a time, or a time that is none.
    """
    resolutions = [r for r in RESOLUTIONS if r >= LEAST_RESOLUTION]
    blocks, rest = np.zeros((len(resolutions), BLOCKS, FORMS)), np.zeros(len(resolutions))
    for at, resolution in enumerate(resolutions):
        path = folder / f"{resolution}_lookup_table.yaml"
        table = _read_yaml(path)
        names, fixed = _layer_names(resolution)
        blocks[at] = [[_time(table, name, path) for name in forms] for forms in names]
        rest[at] = sum(_time(table, name, path) for name in fixed)
    return {"resolutions": np.array(resolutions), "blocks_ms": blocks, "rest_ms": rest}


def _read_yaml(path: Path) -> dict[str, Any]:
    data = common.read_bytes(path)
    if len(data) > MAX_YAML_BYTES:
        raise DataError(f"{path} has {len(data)} bytes; a latency table has at most {MAX_YAML_BYTES}")
    try:
        table = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML: {error}") from error
    if not isinstance(table, dict):
        raise DataError(f"{path} is no latency table: expected layer -> count, mean, std")
    return table


def _time(table: dict[str, Any], name: str, path: Path) -> float:
    entry = table.get(name)
    mean = entry.get("mean") if isinstance(entry, dict) else None
    if isinstance(mean, bool) or not isinstance(mean, int | float) or not 0 < mean < 1e6:
        raise DataError(f"{path} has no time in milliseconds for the layer {name}")
    return float(mean)


def _layer_names(resolution: int) -> tuple[list[list[str]], list[str]]:
    """Return the tables' names of the nine forms of each block, and of the layers of every network."""
    side, channels = (resolution + 1) // 2, STEM
    fixed = [f"Conv-input:{resolution}x{resolution}x3-output:{side}x{side}x{STEM}"]
    fixed.append(_block_name(side, STEM, side, STEM, STEM, 3, 1, squeeze=False, swish=False))
    blocks = []
    for block in range(BLOCKS):
        stage, place = divmod(block, BLOCKS // STAGES)
        stride = STRIDES[stage] if place == 0 else 1
        after = (side - 1) // stride + 1
        blocks.append(
            [
                _block_name(side, channels, after, WIDTHS[stage], channels * expand, kernel, stride,
                            squeeze=SQUEEZE[stage], swish=HARD_SWISH[stage], skip=place > 0)
                for kernel in KERNELS
                for expand in EXPANSIONS
            ]
        )  # fmt: skip
        side, channels = after, WIDTHS[stage]
    wide, mixed, classes = HEAD
    fixed += [
        f"Conv_1-input:{side}x{side}x{channels}-output:{side}x{side}x{wide}",
        f"AvgPool2D-input:{side}x{side}x{wide}-output:1x1x{wide}",
        f"Conv_2-input:1x1x{wide}-output:1x1x{mixed}",
        f"Logits-input:1x1x{mixed}-output:{classes}",
    ]
    return blocks, fixed


def _block_name(
    side: int,
    channels: int,
    after: int,
    width: int,
    middle: int,
    kernel: int,
    stride: int,
    *,
    squeeze: bool,
    swish: bool,
    skip: bool = True,
) -> str:
    return (
        f"expanded_conv-input:{side}x{side}x{channels}-output:{after}x{after}x{width}-expand:{middle}-kernel:{kernel}"
        f"-stride:{stride}-idskip:{skip:d}-se:{squeeze:d}-hs:{swish:d}"
    )

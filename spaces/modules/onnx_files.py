"""Networks as ONNX files, which ONNX Runtime has computed once before they are called written."""

from __future__ import annotations

import copy
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nasplug.errors import InputError
from nasplug.files import write_whole
from nasplug.packages import require

__all__ = ["fold_batch_norms", "note_of", "require_onnx", "write_onnx"]

NOTE = "nasplug"
"""Under which a file's metadata say what it holds."""


def require_onnx() -> None:
    """Raise MissingDependencyError where the packages are not installed that files are written and checked with."""
    require("onnx", "onnxruntime", purpose="export", extra="onnx")  # torch's exporter needs the first


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode in which each norm behind a convolution has become part of it; no copy trains.

    Looks at neighbours in ``nn.Sequential``, where the networks of this package have them.
    """
    folded = copy.deepcopy(network).eval()
    for part in list(folded.modules()):
        if not isinstance(part, nn.Sequential):
            continue
        names = list(part._modules)
        for name, behind in pairwise(names):
            conv, norm = part._modules[name], part._modules[behind]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part._modules[name], part._modules[behind] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return folded


def write_onnx(
    network: nn.Module, path: Path, image: tuple[int, int, int], *, note: str = "", tolerance: float = 1e-4
) -> None:
    """Write a network as ONNX, any number of images ``(N, *image)`` at a time, checked by ONNX Runtime.

    A file that was there stays until the new one is checked.

    Args:
        network: in evaluation mode it is written, batch norms folded.
        path: of the file.
        image: channels, height and width.
        note: what :func:`note_of` reads again.
        tolerance: how far ONNX Runtime's logits may be from torch's, relative to the largest.

    Raises:
        MissingDependencyError: without onnx or onnxruntime.
        InputError: the runtime computes something else.
        DataError: the file cannot be written.
    """
    require_onnx()
    plain = fold_batch_norms(network).to("cpu")
    first = next(plain.parameters())
    images = torch.randn(3, *image, dtype=first.dtype, generator=torch.Generator().manual_seed(0))
    write_whole(path, lambda temporary: _write(plain, temporary, images, note, tolerance, path))


def _write(plain: nn.Module, file: Path, images: torch.Tensor, note: str, tolerance: float, path: Path) -> None:
    import onnx
    import onnxruntime

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch announces another exporter, which needs a package more
        torch.onnx.export(
            plain,
            (images,),
            str(file),
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
            dynamo=False,
        )
        expected = plain(images).numpy()
    if note:
        model = onnx.load(str(file), format="protobuf")
        onnx.helper.set_model_props(model, {NOTE: note})
        onnx.save(model, str(file), format="protobuf")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    off = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))
    if not off <= tolerance:
        raise InputError(f"{path}: ONNX Runtime's logits are off by {off:.1e} of the largest, allowed is {tolerance}")


def note_of(path: Path) -> str:
    """Return the note of an ONNX file, "" where it has none or is none."""
    require_onnx()
    import onnx

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception:  # no file, or no ONNX: whatever the parser makes of it
        return ""
    return next((one.value for one in model.metadata_props if one.key == NOTE), "")

"""NAS-Bench-Macro as JSON: eight digits a network, three test accuracies in percent, parameters, FLOPs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.importers import common
from nasplug.benchmarks.importers.common import Imported, ImportOptions
from nasplug.benchmarks.table import Table, TableInfo
from nasplug.errors import DataError

__all__ = ["import_macro"]

SPACE = "nasbench-macro"


def import_macro(path: Path, options: ImportOptions) -> list[Imported]:
    """Return the table: ``test`` per training seed (fractions), ``params`` and ``flops`` as counts."""
    try:
        content = json.loads(common.read_bytes(path))
        rows = list(content.values())
        test = np.array([row["test_acc"] for row in rows], dtype=np.float64) / 100
        counts = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in ("params", "flops")}
        if not rows:
            raise DataError(f"{path} has no networks")
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not readable JSON of NAS-Bench-Macro: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} has not the layout of NAS-Bench-Macro ({error!r}): expected digits -> test_acc, params, flops"
        ) from error
    space = common.open_space(SPACE)
    names = list(content)
    outside = ~((test >= 0) & (test <= 1)).all(axis=-1)
    if outside.any():
        raise DataError(f"{path}: test_acc of {names[int(np.argmax(outside))]} must be percent in [0, 100]")
    for name, values in counts.items():
        if not np.isfinite(values).all():
            raise DataError(f"{path}: {name} of {names[int(np.argmin(np.isfinite(values)))]} must be a finite number")
    genotypes = common.architectures(space, names, path.name)
    info = TableInfo(
        space=SPACE,
        search=Signal("test"),
        report=Signal("test"),
        source=f"NAS-Bench-Macro (Su et al., CVPR 2021), {path.name}",
        licence="Apache-2.0",
    )
    columns = {"test": test, **counts}
    table = Table(common.table_info(options, info, columns), space, genotypes, columns)
    messages = (f"{len(names)} of the {space.size} architectures of {SPACE}",) if len(names) < space.size else ()
    return [Imported("", "nasbench-macro-cifar10", table, messages)]

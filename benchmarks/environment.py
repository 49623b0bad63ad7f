"""What a result and its speed depend on beside the study itself: versions, sources, the machine and its threads."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nasplug.machine import memory_gib, processor

__all__ = ["LIBRARIES", "code_digest", "environment", "libraries", "one_thread"]

LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "joblib", "optuna", "nni", "torch")
_LOOP = tuple(f"nasplug.benchmarks.{name}" for name in ("base", "compare", "meter", "results", "search", "table"))
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment() -> dict[str, Any]:
    """Return versions and hardware, JSON-ready."""
    return {
        "nasplug": version("nasplug"),
        "python": platform.python_version(),
        "libraries": libraries(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "cpu_count": os.cpu_count(),
        "memory_gib": memory_gib(),
    }


def libraries() -> dict[str, str]:
    """Return the versions of those of :data:`LIBRARIES` that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def code_digest(*modules: str) -> str:
    """Return a digest of the sources a run executes: spaces, strategies, labels, the loop, and those of ``modules``.

    Of a module of ours that is its folder, of another one its whole package: a strategy may stand on several files.
    """
    files = {Path(inspect.getfile(importlib.import_module(one))) for one in _LOOP}
    for module in modules:
        file, package = Path(inspect.getfile(importlib.import_module(module))), module.partition(".")[0]
        if package == __name__.partition(".")[0]:
            files |= set(file.parent.glob("*.py"))
        elif paths := getattr(importlib.import_module(package), "__path__", None):
            files |= {one for path in paths for one in Path(path).rglob("*.py")}
        else:
            files.add(file)
    for package in ("nasplug.spaces", "nasplug.strategies"):
        files |= set(Path(inspect.getfile(importlib.import_module(package))).parent.rglob("*.py"))
    digests = sorted(hashlib.sha256(path.read_bytes()).digest() for path in files)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread, so that arithmetic does not depend on how many runs go on beside it.

    Loaded libraries are told; those that a strategy loads later read the environment.
    """
    outside = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        with _thread_pools(len(sys.modules)).limit(limits=1):
            yield
    finally:
        for name, value in outside.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> Any:
    """Return the loaded BLAS and OpenMP libraries; looked for again, 4 ms, whenever modules were imported."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

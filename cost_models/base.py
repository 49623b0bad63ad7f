"""What an architecture costs: the contract of a latency model, and the bank of devices that some learn from.

Shapes:
    n: architectures; s: sites; d: devices of a bank. Costs are milliseconds everywhere.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.arrays import read_arrays
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.files import write_whole
from nasplug.spaces import Genotypes, Space
from nasplug.spaces.subspace import Subspace

__all__ = ["BankModel", "CostModel", "LatencyBank", "load_cost_model"]

FORMAT_VERSION = 1
MAX_BYTES = 256 * 2**20
"""Largest model file that is read."""


@dataclass(frozen=True, eq=False)
class LatencyBank:
    """Latencies of the same architectures on several devices: what a model for a new device can learn from.

    Args:
        space: the space of the architectures.
        genotypes: ``(n, s)``, valid.
        devices: ``d`` distinct names.
        ms: milliseconds ``(n, d)``; NaN where an architecture was not measured on a device.

    Raises: InputError where shapes disagree, a name repeats, or a latency is infinite or not above zero.
    """

    space: Space
    genotypes: Genotypes
    devices: tuple[str, ...]
    ms: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.space.check(self.genotypes)
        if self.ms.shape != (len(self.genotypes), len(self.devices)):
            raise InputError(
                f"a bank of {len(self.genotypes)} architectures and {len(self.devices)} devices expects latencies "
                f"({len(self.genotypes)}, {len(self.devices)}), got {self.ms.shape}"
            )
        if len(set(self.devices)) != len(self.devices):
            raise InputError(f"a bank names each device once, got {list(self.devices)}")
        bad = np.isinf(self.ms) | (self.ms <= 0)
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            raise InputError(f"latency {self.ms[row, column]} of device {self.devices[column]!r} (row {row})")

    def __len__(self) -> int:
        return len(self.genotypes)

    def on(self, device: str) -> NDArray[np.float64]:
        """Return the latencies on one device, ``(n,)``; raises UnknownNameError for a device it does not hold."""
        if device not in self.devices:
            raise UnknownNameError("device", device, self.devices)
        column: NDArray[np.float64] = self.ms[:, self.devices.index(device)]
        return column

    def only(self, devices: Sequence[str]) -> LatencyBank:
        """Return the bank of these devices, in this order."""
        return dataclasses.replace(self, devices=tuple(devices), ms=np.stack([self.on(d) for d in devices], axis=1))

    def rows(self, index: NDArray[Any]) -> LatencyBank:
        """Return the bank of these architectures (row numbers or a mask)."""
        return dataclasses.replace(self, genotypes=self.genotypes[index], ms=self.ms[index])


@dataclass(kw_only=True, eq=False)
class CostModel(ABC):
    """Base of all cost models: a dataclass whose fields, after ``space``, are its options.

    Subclasses implement ``_fit``, ``_predict``, ``_arrays`` and ``_restore``; the public methods check once, here.

    Args:
        space: of the architectures it predicts.
    """

    space: Space
    device: str = field(default="", init=False)
    """What it was fitted for."""
    provenance: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """JSON-ready facts: how many measurements it was fitted on, and what the caller adds."""

    least: ClassVar[int] = 1
    """Measurements without which there is nothing to fit."""
    per_operation: ClassVar[bool] = False
    """Whether it learns something of each operation, and so wants more measurements than the space has operations."""

    def fit(self, genotypes: Genotypes, ms: NDArray[np.float64], *, device: str = "") -> Self:
        """Fit to measured latencies and return the model.

        Args:
            genotypes: ``(n, s)``.
            ms: milliseconds ``(n,)``, finite and above zero.
            device: its name, for reports.

        Raises: InputError for rows that do not match, latencies that are no latencies or all alike, or too few of them.
        """
        genotypes, ms = self.space.check(genotypes), np.asarray(ms, dtype=np.float64)
        if ms.shape != (len(genotypes),):
            raise InputError(f"{len(genotypes)} architectures need {len(genotypes)} latencies, got shape {ms.shape}")
        if not len(ms) or not np.isfinite(ms).all() or (ms <= 0).any():
            raise InputError("latencies are finite milliseconds above zero, at least one of them; drop the others")
        if len(ms) < self.least:
            name = type(self).__name__
            raise InputError(f"{name} needs at least {self.least} measurements, got {len(ms)}; measure more networks")
        if len(ms) > 1 and np.ptp(ms) <= 1e-9 * ms.max():
            raise InputError(f"all {len(ms)} latencies are {ms[0]:g} ms: nothing to learn; check the measurement")
        self._fit(genotypes, ms)
        self.device = device
        self.provenance = {"measurements": len(ms), "range_ms": [float(ms.min()), float(ms.max())]}
        return self

    def predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return milliseconds ``(n,)``; raises InputError before :meth:`fit`."""
        if not self.fitted:
            raise InputError(f"{type(self).__name__} is not fitted yet")
        return self._predict(self.space.check(genotypes))

    def deviation(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return the standard deviation of each prediction in milliseconds, ``(n,)``; NaN where it has none."""
        return np.full(len(genotypes), np.nan)

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether :meth:`predict` can answer."""

    @abstractmethod
    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        """Fit to checked rows."""

    @abstractmethod
    def _predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return milliseconds of checked rows."""

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that was learnt, as arrays."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what :meth:`_arrays` gave; may raise KeyError or ValueError for arrays that do not fit."""

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the fitted model as one ``.npz`` file of plain arrays (no pickle).

        Raises: InputError before :meth:`fit`; DataError where the file cannot be written.
        """
        if not self.fitted:
            raise InputError(f"{type(self).__name__} is not fitted yet; there is nothing to save")
        header = {
            "format": FORMAT_VERSION,
            "nasplug": version("nasplug"),
            "model": _registered_name(type(self)),
            "options": {
                f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init and f.name != "space"
            },
            "space": self.space.name,
            "device": self.device,
            "provenance": self.provenance,
        }
        arrays = {"header": np.array(json.dumps(header)), **self._arrays()}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:  # a path would get another ending
                np.savez(file, **arrays)  # type: ignore[arg-type]

        write_whole(Path(path), write)


class BankModel(CostModel):
    """A cost model that first learns from other devices, then fits a new one from few measurements."""

    @abstractmethod
    def pretrain(self, bank: LatencyBank) -> Self:
        """Learn from the source devices and return the model; raises InputError for a bank of another space."""

    @abstractmethod
    def suggest(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Return ``n`` architectures of the bank worth measuring on a new device, ``(n, s)``, before any latency of it.

        Raises: InputError before :meth:`pretrain`, or for more than the bank holds.
        """


def load_cost_model(path: Path, space: Space | None = None) -> CostModel:
    """Return a saved model.

    Args:
        path: a file that :meth:`CostModel.save` wrote; read as plain arrays, so a hostile one cannot run code.
        space: what the caller needs it for, or a part of it; None accepts any registered space.

    Raises: DataError for a missing, damaged or foreign file, one of another version, or one of another space.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes; a cost model has at most {MAX_BYTES}")
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("not an .npz file")
        arrays = read_arrays(path, MAX_BYTES)
        header = json.loads(str(arrays.pop("header")))
        if header["format"] != FORMAT_VERSION:
            raise DataError(
                f"{path} has model format {header['format']!r} (written by nasplug {header['nasplug']}), this nasplug "
                f"reads {FORMAT_VERSION}; fit it again"
            )
        while isinstance(space, Subspace):  # a model of the whole predicts every part
            space = space.whole
        if space is not None and space.name != header["space"]:
            raise DataError(f"{path} is a model of space {header['space']!r}, needed is one of {space.name!r}")
        space = space or registry.load("space", header["space"])()
        spec = registry.Spec(header["model"], options=header["options"])
        model: CostModel = registry.configure("cost model", spec, space)
        model._restore(arrays)
        model.device, model.provenance = str(header["device"]), dict(header["provenance"])
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot read the cost model {path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a usable cost model ({type(error).__name__}: {error}); fit it again") from error
    return model


def _registered_name(cls: type) -> str:
    for name in registry.names("cost model"):
        if registry.load("cost model", name) is cls:
            return name
    raise InputError(f"{cls.__name__} is not registered as a cost model, so a saved one could not be loaded")

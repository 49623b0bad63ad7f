"""What devices are: specifications as data, read from YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from nasplug.errors import DataError, InputError, UnknownNameError

__all__ = ["Hardware", "device_and_batch", "hardware", "read_hardware"]

MAX_BYTES = 2**20
_NUMBERS = ("cores", "ram_gb", "bandwidth_gb_s", "fp32_tflops", "capability")
_BATCHED = re.compile(r"(?P<name>.+?)(?:_batch|_)(?P<batch>[1-9]\d{0,4})", re.ASCII)


@dataclass(frozen=True)
class Hardware:
    """One device; None where a number is unknown.

    Attributes:
        name: the short name that latency files use.
        full_name: vendor's name.
        kind: gpu, cpu, phone, board, fpga or asic.
        cores: CUDA cores, CPU cores, DSP slices or processing elements.
        ram_gb: memory.
        bandwidth_gb_s: of the memory, peak.
        fp32_tflops: peak.
        capability: CUDA compute capability.
        sure: how well the numbers are known.
        aliases: other names of the same device.
    """

    name: str
    full_name: str = ""
    kind: str = "gpu"
    cores: float | None = None
    ram_gb: float | None = None
    bandwidth_gb_s: float | None = None
    fp32_tflops: float | None = None
    capability: float | None = None
    sure: str = ""
    aliases: tuple[str, ...] = ()


def hardware(name: str, known: Mapping[str, Hardware] | None = None) -> Hardware:
    """Return a device by its name or alias, out of ``known`` or the list that comes with nasplug.

    Raises: UnknownNameError, offering near names.
    """
    listed = _packaged() if known is None else known
    named = {alias: one for one in listed.values() for alias in (one.name, *one.aliases)}
    if name not in named:
        raise UnknownNameError("hardware", name, named)
    return named[name]


def read_hardware(path: Path) -> dict[str, Hardware]:
    """Return the devices of a YAML file, name -> device; the format is that of ``hardware.yaml`` beside this module.

    Raises: DataError for a missing, damaged or overlong file, an unknown field, or a number that is none above zero.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size} bytes; a list of hardware has at most {MAX_BYTES}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read hardware from {path}: {error}") from error
    return _parsed(text, str(path))


@cache
def _packaged() -> dict[str, Hardware]:
    return _parsed(files("nasplug.cost_models").joinpath("hardware.yaml").read_text(encoding="utf-8"), "hardware.yaml")


def _parsed(text: str, where: str) -> dict[str, Hardware]:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{where} is not YAML: {error}") from error
    if not isinstance(content, dict) or not content or not all(isinstance(one, dict) for one in content.values()):
        raise DataError(f"{where} is no list of hardware: expected device names, each with its numbers")
    known = {field.name for field in fields(Hardware)} - {"name"}
    devices = {}
    for name, facts in content.items():
        if unknown := sorted(set(map(str, facts)) - known):
            raise UnknownNameError(f"field of {name} in {where}", unknown[0], known)
        for field in _NUMBERS:
            number = facts.get(field)
            plain = isinstance(number, int | float) and not isinstance(number, bool)
            if number is not None and not (plain and 0 < number < 1e9):
                raise DataError(f"{where}: {field} of {name} must be a number above zero, got {number!r}")
        devices[str(name)] = _device(str(name), facts)
    return devices


def _device(name: str, facts: Mapping[str, Any]) -> Hardware:
    aliases = facts.get("aliases") or []
    texts = {field: str(facts[field]) for field in ("full_name", "kind", "sure") if facts.get(field) is not None}
    numbers = {field: float(facts[field]) for field in _NUMBERS if facts.get(field) is not None}
    given: dict[str, Any] = {**texts, **numbers}
    return Hardware(name, aliases=tuple(map(str, aliases if isinstance(aliases, list) else [aliases])), **given)


def device_and_batch(device: str) -> tuple[str, int]:
    """Return hardware name and batch size of a device name such as ``2080ti_64``; raises InputError for another.

    A number that belongs to the name of listed hardware, such as ``essential_ph_1``, is no batch size.
    """
    match = _BATCHED.fullmatch(device)
    if match is None or any(device in (one.name, *one.aliases) for one in _packaged().values()):
        raise InputError(f"expected HARDWARE_BATCH, such as titan_rtx_64, got {device!r}")
    return match["name"], int(match["batch"])

"""Between NNI's search spaces and nasplug's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasplug.errors import InputError
from nasplug.plugins.nni.nested import NAME, NestedSpace, Site
from nasplug.spaces import Categorical, Float, Integer, Parameter, ParameterSpace, Space

__all__ = ["check_search_space", "experiment_space", "search_space"]

_LONGEST_LIST = 1000  # values that are written out as a choice
_ARGUMENTS = {
    "randint": "[low, high], whole, low included and high not",
    "uniform": "[low, high]",
    "quniform": "[low, high, q] with q > 0",
    "loguniform": "[low, high] with low > 0",
}
_INSTEAD = {
    "qloguniform": "loguniform, rounded in the trial",
    "normal": "uniform over two or three sigma around mu",
    "qnormal": "quniform over two or three sigma around mu",
    "lognormal": "loguniform between exp(mu - 2 sigma) and exp(mu + 2 sigma)",
    "qlognormal": "loguniform, rounded in the trial",
}


def search_space(space: Space) -> dict[str, dict[str, Any]]:
    """Return NNI's search space of a nasplug space, JSON-ready: one parameter a site, of the same name and values.

    Categories are a ``choice``, whole numbers a ``randint``, floats ``uniform`` or ``loguniform``; anything else is
    written out as a ``choice``.

    Raises:
        InputError: a parameter that is none of these and has more than 1,000 values.
    """
    return {p.name: _written(p) for p in space.parameters}


def _written(p: Parameter) -> dict[str, Any]:
    match p:
        case Integer(step=1, log=False):
            return {"_type": "randint", "_value": [int(p.low), int(p.high) + 1]}
        case Float(step=None):
            return {"_type": "loguniform" if p.log else "uniform", "_value": [float(p.low), float(p.high)]}
    if p.size > _LONGEST_LIST:
        raise InputError(f"NNI has no search-space type for {p!r}, and its {p.size} values are too many for a choice")
    return {"_type": "choice", "_value": p.decode(np.arange(p.size))}


def check_search_space(space: Space, name: str, found: Any) -> None:
    """Raise InputError unless an experiment's search space is that of the named space.

    Order is free, of parameters and of choices; ``2`` and ``2.0`` are one value, since NNI's manager writes both alike.
    """
    remedy = f"write it with: nasplug nni search-space {name}"
    _check_form(found)
    wanted = search_space(space)
    for what, names in (("lacks", wanted.keys() - found.keys()), ("has unknown", found.keys() - wanted.keys())):
        if names:
            raise InputError(
                f"the search space {what} {', '.join(map(repr, sorted(names)))} of space {name!r}; {remedy}"
            )
    for key, spec in wanted.items():
        given = found[key]
        same = given["_type"] == spec["_type"]
        if same and spec["_type"] == "choice":
            same = sorted(map(_alike, given["_value"])) == sorted(map(_alike, spec["_value"]))
        elif same:
            same = list(map(_alike, given["_value"])) == list(map(_alike, spec["_value"]))
        if not same:
            raise InputError(
                f"the search space has {json.dumps(given)} for {key!r}, space {name!r} has {json.dumps(spec)}; {remedy}"
            )


def _alike(value: Any) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value, sort_keys=True)


def experiment_space(found: Any) -> Space:
    """Return the space of an experiment's own search space; parameters in the order of their names.

    Types: choice (of any JSON values, or nested by ``_name``), randint, uniform, quniform, loguniform. Floats are
    rounded to 2^20 + 1 values; a quniform takes the multiples of q that lie in its range, its ends only if they are
    such. The same parameters as an Optuna study's give an equal space, and so the same search.

    Raises:
        InputError: a malformed search space, or a type that is not supported; the message names the parameter.
    """
    sites: list[Site] = []
    _collect(found, "", None, sites)
    if any(site.branches for site in sites):
        return NestedSpace(sites)
    return ParameterSpace([site.parameter for site in sites])


def _check_form(found: Any, where: str = "the search space") -> None:
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"{where} must be a JSON object of parameters, got {_short(found)}")
    for key, spec in found.items():
        if key == NAME:
            continue
        if not isinstance(spec, Mapping) or not {"_type", "_value"} <= spec.keys():
            raise InputError(f"{where} must have {{'_type': ..., '_value': [...]}} for {key!r}, got {_short(spec)}")
        if not isinstance(spec["_value"], Sequence) or isinstance(spec["_value"], str) or not spec["_value"]:
            raise InputError(f"{where} must have a list as '_value' of {key!r}, got {_short(spec['_value'])}")


def _collect(found: Any, path: str, parent: tuple[int, int] | None, sites: list[Site]) -> None:
    _check_form(found, f"option {path!r} of the search space" if path else "the search space")
    for key in sorted(name for name in found if name != NAME):
        kind, values = found[key]["_type"], list(found[key]["_value"])
        name = f"{path}/{key}" if path else key
        named = [isinstance(value, Mapping) and NAME in value for value in values]
        if kind != "choice" or not any(named):
            sites.append(Site(key, _parameter(name, kind, values), parent))
            continue
        if not all(named):
            raise InputError(f"all options of the nested choice {name!r} need a {NAME!r}, got {_short(values)}")
        number = len(sites)
        sites.append(Site(key, Categorical(name, tuple(value[NAME] for value in values)), parent, branches=True))
        for code, value in enumerate(values):
            if len(value) > 1:
                _collect(value, f"{name}/{value[NAME]}", (number, code), sites)


def _parameter(name: str, kind: Any, values: list[Any]) -> Parameter:
    if kind == "choice":
        return Categorical(name, tuple(values))
    if kind in _INSTEAD:
        raise InputError(f"parameter {name!r} has the type {kind}, which is not supported; use {_INSTEAD[kind]}")
    if kind not in _ARGUMENTS:
        raise InputError(f"parameter {name!r} has the type {kind!r}; expected choice, {', '.join(_ARGUMENTS)}")
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if len(values) != (3 if kind == "quniform" else 2) or not numeric:
        raise InputError(f"parameter {name!r} of type {kind} expects {_ARGUMENTS[kind]}, got {_short(values)}")
    match kind, values:
        case "randint", [low, high]:
            if low != int(low) or high != int(high) or low >= high:
                raise InputError(f"parameter {name!r} of type randint expects {_ARGUMENTS[kind]}, got {values}")
            return Integer(name, int(low), int(high) - 1)
        case "quniform", [low, high, q]:
            if not q > 0 or math.floor(high / q + 1e-9) < math.ceil(low / q - 1e-9):
                raise InputError(f"parameter {name!r}: there is no multiple of q in quniform {values}")
            first, last = math.ceil(low / q - 1e-9), math.floor(high / q + 1e-9)
            return Float(name, first * q, last * q, step=q)
        case _, [low, high]:
            return Float(name, low, high, log=kind == "loguniform")
    raise AssertionError(kind)


def _short(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 200 else text[:200] + "..."

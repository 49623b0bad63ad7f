"""Named plugins: entry points looked up by role, and the ``name:option=value`` text that configures one.

A registry is a group of entry points, so another package adds a strategy by declaring one; ours are declared the same
way in ``pyproject.toml``. Nothing is imported until a name is loaded.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points, requires
from typing import Any, Literal, get_args, get_origin

import yaml

from nasplug.errors import InputError, MissingDependencyError, UnknownNameError

__all__ = ["Spec", "configure", "load", "names", "option_defaults"]

Role = Literal["space", "benchmark", "strategy", "cost model"]
_GROUPS: dict[str, str] = {
    "space": "nasplug.spaces",
    "benchmark": "nasplug.benchmarks",
    "strategy": "nasplug.strategies",
    "cost model": "nasplug.cost_models",
}
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@cache
def _entries(role: Role) -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=_GROUPS[role]):
        if entry.name in found and found[entry.name].value != entry.value:
            raise InputError(
                f"two installed packages register the {role} {entry.name!r} "
                f"({found[entry.name].value} and {entry.value}); uninstall or rename one"
            )
        found[entry.name] = entry
    return found


def names(role: Role) -> list[str]:
    """Return the registered names of a role, sorted; imports nothing."""
    return sorted(_entries(role))


def load(role: Role, name: str) -> Callable[..., Any]:
    """Return the class or function registered under ``name``.

    Raises:
        UnknownNameError: no such name; near names are offered.
        MissingDependencyError: the plugin exists but a package it needs is not installed.
    """
    entries = _entries(role)
    if name not in entries:
        raise UnknownNameError(role, name, entries)
    try:
        return typing.cast(Callable[..., Any], entries[name].load())
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "nasplug":
            raise
        raise MissingDependencyError(
            f"{role} {name!r} needs the package {error.name!r}; {_remedy(error.name or '')}"
        ) from error


def _remedy(package: str) -> str:
    """Return the command that installs a package of one of our extras."""
    for line in requires("nasplug") or ():
        match = re.match(r"""([\w.-]+).*extra == ["'](\w+)["']""", line)
        if match and match[1] == package.partition(".")[0]:
            return f"pip install 'nasplug[{match[2]}]'"
    return "install it"


@dataclasses.dataclass(frozen=True)
class Spec:
    """A plugin's name with options, as written on a command line: ``weaknas:predictor=mlp,batch=10``.

    An item without ``=`` is the first option of the plugin: ``optuna:tpe`` is ``optuna`` with its sampler. Values are
    YAML scalars, so ``10`` is an integer, ``0.5`` or ``1e-3`` a float, ``true`` a bool and ``null`` None.
    """

    name: str
    positional: tuple[Any, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read ``name[:value][,key=value]...``; raises InputError where the text has no such form."""
        name, _, rest = text.strip().partition(":")
        if not name:
            raise InputError(f"expected NAME or NAME:OPTION=VALUE,..., got {text!r}")
        positional: list[Any] = []
        options: dict[str, Any] = {}
        for item in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, value = item.partition("=")
            try:
                parsed = _scalar(value if equals else key)
            except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist
                reason = " ".join(str(getattr(error, "problem", None) or error).split())
                raise InputError(f"cannot read the option {item!r} of {name!r}: {reason}") from error
            if not equals:
                positional.append(parsed)
            elif key in options:
                raise InputError(f"option {key!r} of {name!r} is given twice in {text!r}")
            else:
                options[key] = parsed
        return cls(name, tuple(positional), options)


def _scalar(text: str) -> Any:
    # YAML 1.1 reads 1e-3, without a point, as text.
    return float(text) if _EXPONENT.fullmatch(text.strip()) else yaml.safe_load(text)


def configure(role: Role, spec: Spec | str, *fixed: Any) -> Any:
    """Build the plugin that ``spec`` names, its options checked against the arguments it takes.

    Args:
        role: which registry.
        spec: a :class:`Spec` or its text.
        fixed: values of the leading arguments, which are not options, such as the space of a strategy.

    Raises:
        UnknownNameError: unknown plugin or option; near names are offered.
        InputError: an option of the wrong type, or one that is needed and missing.
    """
    if isinstance(spec, str):
        spec = Spec.parse(spec)
    factory = load(role, spec.name)
    kinds = _arguments(factory)
    given = dict(zip(list(kinds), fixed, strict=False))
    kinds = {key: kind for key, kind in kinds.items() if key not in given}
    options = dict(spec.options)
    if len(spec.positional) > len(kinds):
        raise InputError(f"{role} {spec.name!r} takes at most {len(kinds)} options, got {list(spec.positional)}")
    for key, value in zip(kinds, spec.positional, strict=False):
        if key in options:
            raise InputError(f"option {key!r} of {role} {spec.name!r} is given twice")
        options[key] = value
    for key, value in options.items():
        if key not in kinds:
            raise UnknownNameError(f"option of {role} {spec.name!r}", key, kinds)
        options[key] = _checked(value, kinds[key], f"option {key!r} of {role} {spec.name!r}")
    required = [p.name for p in _parameters(factory) if p.default is p.empty]
    missing = [key for key in kinds if key in required and key not in options]
    if missing:
        raise InputError(f"{role} {spec.name!r} needs the option {missing[0]!r}: {spec.name}:{missing[0]}=VALUE")
    return factory(**given, **options)


def option_defaults(role: Role, name: str) -> dict[str, Any]:
    """Return option -> default of a registered plugin, None where it has none; a strategy's space is no option."""
    taken = _parameters(load(role, name))[1 if role == "strategy" else 0 :]
    return {p.name: None if p.default is p.empty else p.default for p in taken}


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in inspect.signature(factory).parameters.values() if p.kind not in starred]


def _arguments(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return argument -> annotated type of a call to ``factory``."""
    # Of the call, not of the class: its annotations include ClassVars.
    plain = isinstance(factory, type) and not dataclasses.is_dataclass(factory)
    hints = typing.get_type_hints(factory.__init__ if plain else factory)
    return {p.name: hints.get(p.name, Any) for p in _parameters(factory)}


def _checked(value: Any, kind: Any, what: str) -> Any:
    """Return ``value`` if it fits ``kind`` (int passes as float); raise InputError otherwise."""
    origin = get_origin(kind)
    accepted = get_args(kind) if origin in (types.UnionType, typing.Union) else (kind,)
    for one in accepted:
        if one is Any or one is object:
            return value
        if one is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if get_origin(one) is Literal and value in get_args(one):
            return value
        if isinstance(one, type) and isinstance(value, one) and (one is bool or not isinstance(value, bool)):
            return value
    named = [str(word) for one in accepted if get_origin(one) is Literal for word in get_args(one)]
    if named and (isinstance(value, str) or len(accepted) == 1):
        raise UnknownNameError(f"value for {what}", str(value), named)
    wanted = " or ".join("null" if one is types.NoneType else getattr(one, "__name__", str(one)) for one in accepted)
    raise InputError(f"{what} must be {wanted}, got {value!r}")

"""Strategies under names of their own, so that a configuration may say ``tuner: {name: WeakNAS}``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from nasplug import registry
from nasplug.errors import InputError, MissingDependencyError, UnknownNameError

__all__ = ["register", "tuner_names", "unregister"]

CLASS = "nasplug.plugins.nni.NasTuner"


def tuner_names() -> dict[str, str]:
    """Return NNI name -> strategy of all strategies but other people's samplers and tuners; the name is the class's."""
    found = {}
    for name in registry.names("strategy"):
        try:
            strategy = registry.load("strategy", name)
        except MissingDependencyError:
            continue
        if not strategy.__module__.startswith("nasplug.plugins."):
            found[strategy.__name__] = name
    return found


def register(wanted: Sequence[str] = ()) -> dict[str, str]:
    """Register strategies with NNI, all if none are named; returns NNI name -> strategy.

    Again is no error: what stands there is written anew.

    Raises:
        UnknownNameError: not a strategy that can be registered.
        InputError: NNI has another algorithm of that name, or refuses.
        MissingDependencyError: nni or what nnictl needs is missing.
    """
    check_nnictl()
    chosen = {name: one for name, one in tuner_names().items() if one in _checked(wanted)}
    for name in chosen:
        owner = _class_of(name)
        if owner not in (None, CLASS):
            raise InputError(f"NNI knows {name!r} as {owner} already; nnictl algo unregister {name}")
    meta = {
        "algorithms": [
            {"algoType": "tuner", "builtinName": name, "className": CLASS, "classArgs": {"strategy": one}}
            for name, one in chosen.items()
        ]
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meta.yml"
        path.write_text(yaml.safe_dump(meta), encoding="utf-8")
        said = _nnictl("algo", "register", "--meta", str(path))
    if missing := [name for name in chosen if _class_of(name) != CLASS]:
        raise InputError(f"NNI did not register {', '.join(missing)}: {said}")
    return chosen


def unregister(wanted: Sequence[str] = ()) -> dict[str, str]:
    """Take strategies from NNI's list, all if none are named; returns NNI name -> strategy of those that were there."""
    check_nnictl()
    from nni.tools.package_utils import unregister_algo_meta

    asked = _checked(wanted)
    chosen = {name: one for name, one in tuner_names().items() if one in asked and _class_of(name) == CLASS}
    for name in chosen:
        unregister_algo_meta(name)  # all that nnictl algo unregister does, without starting it for each
    return chosen


def check_nnictl() -> None:
    """Raise MissingDependencyError where nnictl cannot run, with the command that mends it."""
    if importlib.util.find_spec("nni") is None:
        raise MissingDependencyError("this needs the package 'nni'; pip install 'nasplug[nni]'")
    if importlib.util.find_spec("pkg_resources") is None:
        raise MissingDependencyError(
            "nnictl needs 'pkg_resources', which setuptools no longer has from version 82; pip install 'setuptools<81'"
        )


def _checked(wanted: Sequence[str]) -> set[str]:
    known = set(tuner_names().values())
    for one in wanted:
        if one not in known:
            raise UnknownNameError("strategy for NNI", one, known)
    return set(wanted) or known


def _class_of(name: str) -> str | None:
    """Return the class that NNI has under a name."""
    from nni.tools.package_utils import get_algo_meta

    found = get_algo_meta(name)
    return None if found is None else str(found.class_name)


def _nnictl(*arguments: str) -> str:
    """Run nnictl in this interpreter's environment and return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "nni.tools.nnictl.nnictl", *arguments], capture_output=True, text=True, check=False
    )
    said = " ".join((done.stdout + done.stderr).split())
    if done.returncode:
        raise InputError(f"nnictl {' '.join(arguments[:2])} ended with {done.returncode}: {said[-500:]}")
    return said

"""NNI's nested choices as a space: a parameter that exists only under one option of another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Parameter, Space

__all__ = ["NAME", "NestedSpace", "Site"]

NAME = "_name"
"""Key of an option's name in NNI's search spaces and parameters."""


@dataclass(frozen=True)
class Site:
    """One parameter of a nested search space.

    Attributes:
        key: its name where it stands, in the search space or in an option.
        parameter: its values, under a name that tells sites of one key apart.
        parent: the site and code that it exists under; None at the top.
        branches: whether its values are options that may hold further parameters.
    """

    key: str
    parameter: Parameter
    parent: tuple[int, int] | None = None
    branches: bool = False


class NestedSpace(Space):
    """Every configuration of a search space with nested choices, each once.

    A site that does not exist in a configuration has code 0 there, so configurations and valid genotypes correspond
    one to one. Encodings show such a site as its first value; its parent's columns tell that it is absent.

    Parameters are written as NNI writes them, ``{"opt": {"_name": "sgd", "lr": 0.1}}``; strings are their JSON.

    Args:
        sites: each site after its parent.
    """

    def __init__(self, sites: Sequence[Site]):
        super().__init__("nested parameters", [site.parameter for site in sites])
        self.sites = tuple(sites)

    @cached_property
    def size(self) -> int:
        return self._count(None)

    def _count(self, parent: tuple[int, int] | None) -> int:
        total = 1
        for number, site in enumerate(self.sites):
            if site.parent == parent:
                codes = range(site.parameter.size) if site.branches else ()
                total *= sum(self._count((number, code)) for code in codes) or site.parameter.size
        return total

    def exists(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Return which sites exist in each row, ``(n, s)``."""
        found = np.ones(genotypes.shape, dtype=bool)
        for number, site in enumerate(self.sites):
            if site.parent is not None:
                above, code = site.parent
                found[:, number] = found[:, above] & (genotypes[:, above] == code)
        return found

    def repair(self, genotypes: Genotypes) -> Genotypes:
        """Return the rows ``(n, s)`` with code 0 where a site does not exist."""
        return np.where(self.exists(genotypes), genotypes, 0)

    def valid(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = (self.repair(genotypes) == genotypes).all(axis=1)
        return same & self.in_range(genotypes)

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the key of each row's configuration, ``(n,)``."""
        return self.keys(self.repair(genotypes))

    @cached_property
    def _listed(self) -> tuple[Genotypes, NDArray[np.int64]]:
        if not self.enumerable:
            raise InputError(f"{self!r} has too many configurations to list")
        rows = np.zeros((1, self.n_sites), np.int64)
        for number, site in enumerate(self.sites):
            repeats = np.where(self.exists(rows)[:, number], site.parameter.size, 1)
            codes = np.concatenate([np.arange(count) for count in repeats])
            rows = np.repeat(rows, repeats, axis=0)
            rows[:, number] = codes
        keys = self.keys(rows)
        order = np.argsort(keys)
        rows, keys = rows[order], keys[order]
        rows.flags.writeable = keys.flags.writeable = False
        return rows, keys

    # -- moves -------------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw ``n`` configurations as NNI's random tuner does, ``(n, s)``: options first, then what they hold."""
        return self.repair(super().sample(n, rng))

    def mutate(self, genotypes: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Change one site of each row, ``(n, s)``; sites that come into being with it are drawn from their priors."""
        children = np.array(genotypes, dtype=np.int64)
        same = np.arange(len(children))
        for _ in range(100):  # a change of a site that does not exist is drawn again
            children[same] = self.repair(super().mutate(self._filled(genotypes[same], rng), rng))
            same = same[(children[same] == genotypes[same]).all(axis=1)]
            if not len(same):
                break
        return children

    def crossover(self, first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
        return self.repair(super().crossover(self._filled(first, rng), self._filled(second, rng), rng))

    def _filled(self, genotypes: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Return the rows with codes drawn from the priors where a site does not exist."""
        return np.where(self.exists(genotypes), genotypes, super().sample(len(genotypes), rng))

    def neighbors(self, genotype: NDArray[np.int64]) -> Genotypes:
        """Return the configurations one changed site away, ``(k, s)``, distinct, without ``genotype``."""
        near = self.repair(super().neighbors(genotype))
        near = near[np.sort(np.unique(self.keys(near), return_index=True)[1])]
        return np.compress((near != np.asarray(genotype)).any(axis=1), near, axis=0)

    # -- words -------------------------------------------------------------------------------------------------------

    def to_params(self, genotypes: Genotypes) -> list[dict[str, Any]]:
        columns = [site.parameter.decode(genotypes[:, number]) for number, site in enumerate(self.sites)]
        exists = self.exists(genotypes)
        rows = []
        for row in range(len(genotypes)):
            top: dict[str, Any] = {}
            options: dict[int, dict[str, Any]] = {}
            for number in np.flatnonzero(exists[row]).tolist():
                site = self.sites[number]
                value = columns[number][row]
                if site.branches:
                    value = options[number] = {NAME: value}
                (top if site.parent is None else options[site.parent[0]])[site.key] = value
            rows.append(top)
        return rows

    def from_params(self, params: Sequence[Mapping[str, Any]]) -> Genotypes:
        return np.array([self._codes(one) for one in params], dtype=np.int64).reshape(-1, self.n_sites)

    def _codes(self, params: Mapping[str, Any]) -> list[int]:
        codes = [0] * self.n_sites
        holders: dict[int, Mapping[str, Any]] = {}
        for number, site in enumerate(self.sites):
            holder: Mapping[str, Any] | None = params
            if site.parent is not None:
                above, code = site.parent
                holder = holders.get(above) if codes[above] == code else None
            if holder is None:
                continue
            if site.key not in holder:
                raise InputError(f"parameter {site.parameter.name!r} is missing in {json.dumps(params)[:200]}")
            value = holder[site.key]
            if site.branches:
                if not isinstance(value, Mapping) or NAME not in value:
                    raise InputError(f"parameter {site.parameter.name!r} expects {{'{NAME}': ...}}, got {value!r}")
                holders[number] = value
                value = value[NAME]
            codes[number] = int(site.parameter.encode([value])[0])
        return codes

"""What an architecture is: a genotype, and the space it lives in.

Shapes:
    n: architectures in a batch; s: sites (``len(space.parameters)``); d: features of an encoding.
    A genotype is an int64 vector ``(s,)`` of codes, one a site; everything hot takes a batch ``(n, s)``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError, SpaceExhaustedError, UnknownNameError
from nasplug.spaces.graph import Graph
from nasplug.spaces.parameters import Parameter

__all__ = ["EnumeratedSpace", "Genotypes", "Space", "encoded_space"]

Genotypes = NDArray[np.int64]
"""Architectures as rows of codes, ``(n, s)``."""

ENUMERABLE_LIMIT = 1_000_000


class Space:
    """A frozen set of architectures: here, every combination of its parameters' values.

    Subclasses add meaning: a canonical form, strings, structural encodings. Two spaces with the same name and
    parameters are equal and hash alike, so results can be cached by space.

    Args:
        name: the registered name.
        parameters: the sites, in genotype order.
    """

    encodings: ClassVar[tuple[str, ...]] = ("onehot", "pairwise", "counts")
    """Kinds that :meth:`encode` knows."""

    def __init__(self, name: str, parameters: Sequence[Parameter]):
        if not parameters:
            raise InputError(f"space {name!r} needs at least one parameter")
        if len({p.name for p in parameters}) != len(parameters):
            raise InputError(f"space {name!r} has two parameters of one name: {[p.name for p in parameters]}")
        self.name = name
        self.parameters = tuple(parameters)

    def __eq__(self, other: object) -> bool:
        if self is other or type(self) is not type(other):
            return self is other
        assert isinstance(other, Space)
        return self._hash == other._hash and (self.name, self.parameters) == (other.name, other.parameters)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), self.name, self.parameters))

    def __getstate__(self) -> dict[str, Any]:
        """Travel light: what is derived is derived again, and a string's hash differs in another process."""
        cls = type(self)
        return {k: v for k, v in vars(self).items() if not isinstance(getattr(cls, k, None), cached_property)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, sites={self.n_sites}, size={_counted(self.size)})"

    # -- shape -------------------------------------------------------------------------------------------------------

    @property
    def n_sites(self) -> int:
        """Number of sites s."""
        return len(self.parameters)

    @cached_property
    def n_choices(self) -> NDArray[np.int64]:
        """Number of codes of each site, shape ``(s,)``."""
        return np.array([p.size for p in self.parameters], dtype=np.int64)

    @cached_property
    def size(self) -> int:
        """Number of valid genotypes, a Python int of any length."""
        return math.prod(p.size for p in self.parameters)

    @property
    def enumerable(self) -> bool:
        """Whether :meth:`all` is available (at most a million genotypes)."""
        return self.size <= ENUMERABLE_LIMIT

    def all(self) -> Genotypes:
        """Return every valid genotype, ``(size, s)``, read-only, in the order of :meth:`keys`.

        Raises: InputError where the space is too large to enumerate.
        """
        return self._listed[0]

    @cached_property
    def _listed(self) -> tuple[Genotypes, NDArray[np.int64]]:
        """All genotypes and their keys, ascending."""
        if not self.enumerable:
            raise InputError(f"space {self.name!r} has {_counted(self.size)} architectures and cannot be enumerated")
        keys = np.arange(self.size)
        rows = self._unrank(keys)
        rows.flags.writeable = keys.flags.writeable = False
        return rows, keys

    def index(self, genotypes: Genotypes) -> NDArray[np.intp]:
        """Return the row of each valid genotype in :meth:`all`, ``(n,)``; enumerable spaces only."""
        return np.searchsorted(self._listed[1], self.keys(genotypes))

    # -- membership --------------------------------------------------------------------------------------------------

    def in_range(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Return whether each row has codes that exist, ``(n,)``; structure is not looked at."""
        inside: NDArray[np.bool_] = np.all((genotypes >= 0) & (genotypes < self.n_choices), axis=1)
        return inside

    def valid(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Return whether each row is an architecture of the space, ``(n,)``."""
        return self.in_range(genotypes)

    def check(self, genotypes: Any) -> Genotypes:
        """Return ``genotypes`` as an int64 batch ``(n, s)``; raises InputError naming the first bad row."""
        batch = np.asarray(genotypes)
        if batch.ndim != 2 or batch.shape[1] != self.n_sites or not np.issubdtype(batch.dtype, np.integer):
            raise InputError(
                f"space {self.name!r} expects an integer array (n, {self.n_sites}), got {batch.dtype} {batch.shape}"
            )
        batch = batch.astype(np.int64, copy=False)
        ok = self.valid(batch)
        if not ok.all():
            row = int(np.argmin(ok))
            raise InputError(f"row {row} is not an architecture of {self.name!r}: {batch[row].tolist()}")
        return batch

    def keys(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return one int64 a row, ``(n,)``, equal exactly for equal genotypes.

        The key is the mixed-radix number of the codes, last site fastest, while that fits 63 bits. Beyond, it is a
        64-bit hash: two given genotypes then share a key with a probability of about 2^-64.
        """
        genotypes = genotypes.astype(np.int64, copy=False)
        if self._countable:
            return genotypes @ self._radix
        hashed: NDArray[np.uint64] = _mix(genotypes.astype(np.uint64) + self._salts).sum(axis=1, dtype=np.uint64)
        return hashed.view(np.int64)

    def _unrank(self, keys: NDArray[np.int64]) -> Genotypes:
        """Return the combination of each mixed-radix key: the inverse of :meth:`keys` where that is no hash."""
        return keys[:, None] // self._radix % self.n_choices

    @cached_property
    def _countable(self) -> bool:
        return math.prod(p.size for p in self.parameters) < 2**63

    @cached_property
    def _radix(self) -> NDArray[np.int64]:
        sizes = [p.size for p in self.parameters]
        return np.array([math.prod(sizes[i + 1 :]) for i in range(len(sizes))], dtype=np.int64)

    @cached_property
    def _salts(self) -> NDArray[np.uint64]:
        """One number a site, far apart, so that equal codes at two sites hash differently."""
        return _mix(np.arange(1, self.n_sites + 1, dtype=np.uint64))

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return a class id a row, ``(n,)``: architectures that compute the same function share one.

        By default every genotype is its own class.
        """
        return self.keys(genotypes)

    def representative(self, genotypes: Genotypes) -> Genotypes:
        """Return the member that stands for the class of each row, ``(n, s)``: what to train, where all are one."""
        return genotypes

    # -- moves -------------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw ``n`` genotypes independently, ``(n, s)``: each site from its parameter's prior (uniform choices)."""
        return np.stack([p.draw(n, rng) for p in self.parameters], axis=1)

    def sample_distinct(self, n: int, rng: np.random.Generator, exclude: NDArray[np.int64] | None = None) -> Genotypes:
        """Draw ``n`` different genotypes whose keys are not in ``exclude``; fewer only where fewer are left.

        Raises: SpaceExhaustedError when not a single one is left.
        """
        taken = np.empty(0, np.int64) if exclude is None else np.asarray(exclude, dtype=np.int64)
        found = np.empty((0, self.n_sites), np.int64)
        if n < 1:
            return found
        exhaustive = self.enumerable and self.size <= 4 * (n + len(taken))
        for _ in range(0 if exhaustive else 100):
            batch = np.concatenate([found, self.sample(max(2 * (n - len(found)), 8), rng)])
            keys = self.keys(batch)
            first = np.zeros(len(keys), dtype=bool)
            first[np.unique(keys, return_index=True)[1]] = True
            found = batch[first & ~np.isin(keys, taken)][:n]
            if len(found) == n:
                return found
        # Few are left, or the prior hardly reaches them.
        if self.enumerable:
            everything, keys = self._listed
            left = everything[~np.isin(keys, np.concatenate([taken, self.keys(found)]))]
            found = np.concatenate([found, left[rng.permutation(len(left))[: n - len(found)]]])
        if not len(found):
            raise SpaceExhaustedError(
                f"all {self.size} architectures of {self.name!r} are already in the history"
                if self.enumerable
                else f"no unseen architecture of {self.name!r} found in 100 draws"
            )
        return found

    def mutate(self, genotypes: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Change one site of each row, ``(n, s)``; never returns a row as it came (unless the space has one point)."""
        mutable = np.flatnonzero(self.n_choices > 1)
        children = np.array(genotypes, dtype=np.int64)
        if not len(mutable):
            return children
        sites = mutable[rng.integers(len(mutable), size=len(children))]
        for site in np.unique(sites):
            rows = np.flatnonzero(sites == site)
            children[rows, site] = self.parameters[site].perturb(children[rows, site], rng)
        return children

    def resample(self, genotypes: Genotypes, share: float, rng: np.random.Generator) -> Genotypes:
        """Draw each site of each row again with probability ``share``, ``(n, s)``; what is drawn may be what was."""
        fresh = np.stack([p.draw(len(genotypes), rng) for p in self.parameters], axis=1)
        return np.where(rng.random(genotypes.shape) < share, fresh, genotypes)

    def crossover(self, first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Return one child a pair of rows, ``(n, s)``: each site from either parent with equal chance."""
        return np.where(rng.random(first.shape) < 0.5, first, second)

    def neighbors(self, genotype: NDArray[np.int64]) -> Genotypes:
        """Return the architectures one move from ``genotype`` ``(s,)``, ``(k, s)``, without it, in a fixed order."""
        moves = [(site, code) for site, p in enumerate(self.parameters) for code in p.alternatives(genotype[site])]
        near = np.repeat(np.asarray(genotype, dtype=np.int64)[None], len(moves), axis=0)
        for row, (site, code) in enumerate(moves):
            near[row, site] = code
        return near

    # -- encodings ---------------------------------------------------------------------------------------------------

    def encode(self, genotypes: Genotypes, kind: str = "onehot") -> NDArray[np.float32]:
        """Return features, float32 ``(n, d)``.

        Kinds:
            onehot: one indicator a code of a category; one coordinate in [0, 1] an ordered number.
            pairwise: one-hot, then the products of indicators of every two different sites.
            counts: for the sites that offer the same choices, how often each choice is taken: what a network is made
                of, wherever it stands. No columns where no two sites offer the same.
            depth (where the class lists it): how many paths have 0, 1, 2, ... working operations.

        Raises: UnknownNameError for a kind the space does not have.
        """
        if kind not in self.encodings:
            raise UnknownNameError(f"encoding of space {self.name!r}", kind, self.encodings)
        result: NDArray[np.float32] = getattr(self, f"_encode_{kind}")(genotypes)
        return result

    @cached_property
    def _widths(self) -> NDArray[np.int64]:
        """One-hot columns of each site, ``(s,)``."""
        return np.array([1 if p.ordered else p.size for p in self.parameters], dtype=np.int64)

    def _encode_onehot(self, genotypes: Genotypes) -> NDArray[np.float32]:
        starts = np.cumsum(self._widths) - self._widths
        ordered = np.array([p.ordered for p in self.parameters])
        features = np.zeros((len(genotypes), int(self._widths.sum())), dtype=np.float32)
        features[np.arange(len(genotypes))[:, None], (starts + genotypes)[:, ~ordered]] = 1.0
        for site in np.flatnonzero(ordered):
            features[:, starts[site]] = self.parameters[site].coordinate(genotypes[:, site])
        return features

    def _encode_pairwise(self, genotypes: Genotypes) -> NDArray[np.float32]:
        single = self._encode_onehot(genotypes)
        site_of = np.repeat(np.arange(self.n_sites), self._widths)
        left, right = np.nonzero(site_of[:, None] < site_of[None, :])
        return np.concatenate([single, single[:, left] * single[:, right]], axis=1)

    def _encode_counts(self, genotypes: Genotypes) -> NDArray[np.float32]:
        alike: dict[str, list[int]] = {}  # by text: 1 and True are different choices, and a list has no hash
        for site, p in enumerate(self.parameters):
            if not p.ordered:
                alike.setdefault(repr(p.decode(np.arange(p.size))), []).append(site)
        columns = [
            (genotypes[:, sites, None] == np.arange(self.parameters[sites[0]].size)).sum(axis=1)
            for sites in alike.values()
            if len(sites) > 1
        ]
        return np.concatenate([np.empty((len(genotypes), 0)), *columns], axis=1).astype(np.float32)

    # -- words -------------------------------------------------------------------------------------------------------

    def to_params(self, genotypes: Genotypes) -> list[dict[str, Any]]:
        """Return one ``{parameter name: value}`` a row."""
        columns = [p.decode(genotypes[:, site]) for site, p in enumerate(self.parameters)]
        names = [p.name for p in self.parameters]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def from_params(self, params: Sequence[Mapping[str, Any]]) -> Genotypes:
        """Return the genotypes ``(n, s)`` of parameter dicts; raises InputError for a missing name or bad value."""
        for p in self.parameters:
            if any(p.name not in one for one in params):
                raise InputError(f"parameter {p.name!r} of space {self.name!r} is missing")
        return np.stack([p.encode([one[p.name] for one in params]) for p in self.parameters], axis=1)

    def to_string(self, genotypes: Genotypes) -> list[str]:
        """Return the architecture string of each row; here compact JSON of the parameters."""
        return [json.dumps(one, separators=(",", ":")) for one in self.to_params(genotypes)]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Return the genotypes ``(n, s)`` of architecture strings; raises InputError naming the first bad one."""
        params = []
        for text in strings:
            try:
                one = json.loads(text)
                if not isinstance(one, dict):
                    raise ValueError("expected a JSON object of parameters")
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(f"not an architecture of {self.name!r}: {str(text)[:80]!r} ({error})") from None
            params.append(one)
        return self.from_params(params)

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return what the architecture ``(s,)`` looks like, one graph a cell; () where there is nothing to draw."""
        return ()


class EnumeratedSpace(Space):
    """A space whose valid genotypes are a listed part of all combinations.

    Subclasses implement :meth:`_enumerate`, which lists them, and :meth:`repair`, which maps any combination to the
    valid genotype that stands for it. Sampling, moves and enumeration then agree on that one set; parameters and
    strings may spell any combination and are repaired.
    """

    def _enumerate(self) -> Genotypes:
        raise NotImplementedError

    def repair(self, genotypes: Genotypes) -> Genotypes:
        """Return the valid genotype that stands for each combination ``(n, s)``."""
        raise NotImplementedError

    @cached_property
    def _listed(self) -> tuple[Genotypes, NDArray[np.int64]]:
        rows = self._enumerate()
        keys = self.keys(rows)
        order = np.argsort(keys)
        rows, keys = rows[order], keys[order]
        rows.flags.writeable = keys.flags.writeable = False
        return rows, keys

    @cached_property
    def size(self) -> int:
        return len(self._listed[0])

    @property
    def enumerable(self) -> bool:
        """Always: the space is its list."""
        return True

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return a class id a row, ``(n,)``: the key of the representative."""
        return self.keys(self.repair(genotypes))

    def representative(self, genotypes: Genotypes) -> Genotypes:
        return self.repair(genotypes)

    def from_params(self, params: Sequence[Mapping[str, Any]]) -> Genotypes:
        """Return the representatives ``(n, s)`` of parameter dicts, any combination."""
        return self.repair(super().from_params(params))

    def valid(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        known = self._listed[1]
        keys = self.keys(genotypes)
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        listed: NDArray[np.bool_] = known[at] == keys
        return listed & self.in_range(genotypes)

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw ``n`` genotypes independently and uniformly from the list, ``(n, s)``."""
        return self.all()[rng.integers(self.size, size=n)]

    def mutate(self, genotypes: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Change one site of each row and repair; a change that repairs to its parent is drawn again."""
        children = np.array(genotypes, dtype=np.int64)
        same = np.arange(len(children))
        for _ in range(100):
            children[same] = self.repair(super().mutate(genotypes[same], rng))
            same = same[(children[same] == genotypes[same]).all(axis=1)]
            if not len(same):
                break
        return children

    def resample(self, genotypes: Genotypes, share: float, rng: np.random.Generator) -> Genotypes:
        return self.repair(super().resample(genotypes, share, rng))

    def crossover(self, first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
        return self.repair(super().crossover(first, second, rng))

    def neighbors(self, genotype: NDArray[np.int64]) -> Genotypes:
        """Return the architectures of which some spelling differs in one site from some spelling of ``genotype``.

        ``(k, s)``, distinct, without ``genotype``, in the order of keys. By looking at every spelling the relation is
        symmetric, though repair may change several sites.
        """
        row = np.asarray(genotype, dtype=np.int64)
        order, keys = self._spellings
        first, last = np.searchsorted(keys, self.keys(row[None])[0] + np.array([0, 1]))
        spelled = self._unrank(order[first:last])
        near = self.repair(np.concatenate([super(EnumeratedSpace, self).neighbors(one) for one in spelled]))
        near = near[np.unique(self.keys(near), return_index=True)[1]]
        return np.compress((near != row).any(axis=1), near, axis=0)

    @cached_property
    def _spellings(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keys of all combinations, ordered by the key of their representative, and that key."""
        combinations = np.arange(math.prod(p.size for p in self.parameters))
        representative = self.canonical(self._unrank(combinations))
        order = np.argsort(representative, kind="stable")
        return order, representative[order]


def _counted(size: int) -> str:
    return str(size) if size < 10**9 else f"10^{math.log10(size):.1f}"  # a float would overflow


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit words one to one (the splitmix64 finaliser of Steele, Lea and Flood, OOPSLA 2014)."""
    words = words * np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@lru_cache(maxsize=8)
def encoded_space(space: Space, kind: str) -> NDArray[np.float32]:
    """Return ``space.encode(space.all(), kind)``, read-only, computed once a space and kind."""
    features = space.encode(space.all(), kind)
    features.flags.writeable = False
    return features

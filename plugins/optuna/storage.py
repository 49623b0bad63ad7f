"""Everything that touches Optuna's private names: trials without copies, and attributes that other workers can read.

What Optuna 4.8 to 5.0 has no public call for lives here and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

__all__ = [
    "PARTIAL",
    "PROPOSAL",
    "digest",
    "fixed_params",
    "identity",
    "publish",
    "published",
    "store_constraints",
    "trials",
    "whole",
]

PROPOSAL = "nasplug:proposal"
"""Trial attribute: the architecture proposed to this trial, all parameters of the space."""

PARTIAL = "nasplug:partial"
"""Trial attribute: the parameters drawn so far by a trial that started before the space was known."""

_LONGEST = 2045  # characters that every database backend stores in an attribute


def whole(study: Study) -> Study:
    """Return the study behind the view of one bracket that ``HyperbandPruner`` shows to a sampler."""
    behind: Study = getattr(study, "_study", study)
    return behind


def identity(study: Study) -> tuple[BaseStorage, int]:
    """Return what tells two studies apart: the storage object and the study's number in it."""
    return study._storage, study._study_id


def trials(study: Study, *, fresh: bool = True) -> list[FrozenTrial]:
    """Return all trials in order, not copied: read only. ``fresh=False``: as last read in this trial."""
    return study._get_trials(deepcopy=False, use_cache=not fresh)


def fixed_params(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return the parameters that ``enqueue_trial`` fixed; empty for most trials."""
    fixed: Mapping[str, Any] = trial.system_attrs.get("fixed_params") or {}
    return fixed


def publish(study: Study, trial: FrozenTrial, key: str, params: Mapping[str, Any]) -> None:
    """Let the other workers know a running trial's parameters before it has suggested them.

    One attribute, so that nobody reads half of it: the parameters as JSON, or where that is too long their digest.
    """
    text = json.dumps(params)
    study._storage.set_trial_system_attr(trial._trial_id, key, text if len(text) <= _LONGEST else digest(params))


def published(trial: FrozenTrial, key: str) -> Mapping[str, Any] | str | None:
    """Return what :func:`publish` stored: parameters, or their digest, or None."""
    text = trial.system_attrs.get(key)
    if text is None:
        return None
    return json.loads(text) if text.startswith("{") else str(text)


def digest(params: Mapping[str, Any]) -> str:
    """Return a text that equal parameters share."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def store_constraints(study: Study, trial: FrozenTrial, values: Sequence[float] | None) -> None:
    """Store what a ``constraints_func`` returned where Optuna's own samplers do; None: it failed."""
    study._storage.set_trial_system_attr(
        trial._trial_id, "constraints", None if values is None else [float(value) for value in values]
    )

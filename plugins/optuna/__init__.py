"""nasplug strategies as Optuna samplers.

``NasSampler`` stands where ``TPESampler`` stood; ``distributions`` gives the Optuna search space of a nasplug space.
Optuna's own samplers as nasplug strategies are in :mod:`.peers`, tables as OptunaHub problems in :mod:`.problem`.
"""

from nasplug.plugins.optuna.sampler import NasSampler
from nasplug.plugins.optuna.spaces import distributions

__all__ = ["NasSampler", "distributions"]

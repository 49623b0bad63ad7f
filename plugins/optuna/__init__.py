"""nasplug strategies as Optuna samplers.

``NasSampler`` stands where ``TPESampler`` stood; ``distributions`` gives the Optuna search space of a nasplug space.
Optuna's own samplers as nasplug strategies are in :mod:`.peers`, tables as OptunaHub problems in :mod:`.problem`.
"""

from nasplug.errors import MissingDependencyError

try:
    from nasplug.plugins.optuna.sampler import NasSampler
    from nasplug.plugins.optuna.spaces import distributions
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    raise MissingDependencyError("Optuna's plugin needs the package 'optuna'; pip install 'nasplug[optuna]'") from error

__all__ = ["NasSampler", "distributions"]

"""Architecture-search strategies as an Optuna sampler; the code is the installed package nasplug."""

from nasplug.plugins.optuna import NasSampler, distributions

__all__ = ["NasSampler", "distributions"]

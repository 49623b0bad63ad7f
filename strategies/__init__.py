"""Search strategies: what to try next, given what is known. Imports neither torch, Optuna nor NNI."""

from nasplug.strategies.base import Strategy, trial_rng
from nasplug.strategies.history import History, Observation, Status
from nasplug.strategies.random_search import RandomSearch

__all__ = ["History", "Observation", "RandomSearch", "Status", "Strategy", "trial_rng"]

"""Search strategies: what to try next, given what is known. Imports neither torch, Optuna nor NNI."""

from nasplug.strategies.base import Strategy, run_seed, trial_rng
from nasplug.strategies.evolution import RegularizedEvolution
from nasplug.strategies.history import History, Observation, Status
from nasplug.strategies.local_search import LocalSearch
from nasplug.strategies.random_search import RandomSearch
from nasplug.strategies.weaknas import WeakNAS, WeakNASPaper

__all__ = [
    "History",
    "LocalSearch",
    "Observation",
    "RandomSearch",
    "RegularizedEvolution",
    "Status",
    "Strategy",
    "WeakNAS",
    "WeakNASPaper",
    "run_seed",
    "trial_rng",
]

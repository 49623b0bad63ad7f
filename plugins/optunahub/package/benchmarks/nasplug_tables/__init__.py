"""NAS-Bench tables as Optuna problems; the code is the installed package nasplug."""

from nasplug.plugins.optuna.problem import TableProblem

__all__ = ["TableProblem"]

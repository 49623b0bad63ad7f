"""nasplug: architecture-search strategies that plug into Optuna, judged on NAS-Bench tables."""

from importlib.metadata import version

__version__ = version("nasplug")
__all__ = ["__version__"]

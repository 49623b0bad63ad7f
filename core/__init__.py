"""nasplug: architecture-search strategies and cost models that plug into Optuna and NNI."""

from importlib.metadata import version

__version__ = version("nasplug")
__all__ = ["__version__"]

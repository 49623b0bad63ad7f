"""nasplug on NNI 3.0: a tuner for any strategy, trials, registration, and what an experiment found.

``NasTuner`` is imported on first use, so that the rest works, and says what is missing, where NNI is not installed.
"""

from typing import TYPE_CHECKING, Any

from nasplug.errors import MissingDependencyError

if TYPE_CHECKING:
    from nasplug.plugins.nni.tuner import NasTuner

__all__ = ["NasTuner"]


def __getattr__(name: str) -> Any:
    if name != "NasTuner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from nasplug.plugins.nni.tuner import NasTuner
    except ModuleNotFoundError as error:
        if error.name != "nni":
            raise
        raise MissingDependencyError("NNI's plugin needs the package 'nni'; pip install 'nasplug[nni]'") from error
    return NasTuner

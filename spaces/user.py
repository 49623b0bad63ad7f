"""A space made from a user's own parameters, so that a strategy works on any study."""

from __future__ import annotations

from collections.abc import Sequence

from nasplug.spaces.base import Space
from nasplug.spaces.parameters import Parameter

__all__ = ["ParameterSpace"]


class ParameterSpace(Space):
    """Every combination of the given parameters; strings are compact JSON objects.

    Args:
        parameters: categorical, integer and float parameters with distinct names.
    """

    def __init__(self, parameters: Sequence[Parameter]):
        super().__init__("parameters", parameters)

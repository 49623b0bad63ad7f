"""Packages that not everybody has installed: asked for before work begins that would end without them."""

from __future__ import annotations

from importlib import import_module

from nasplug.errors import MissingDependencyError

__all__ = ["require"]


def require(*packages: str, purpose: str, extra: str) -> None:
    """Raise MissingDependencyError, naming the first of ``packages`` that is missing and the extra that installs it.

    Args:
        packages: as they are imported.
        purpose: what needs them, the subject of the message.
        extra: of nasplug.
    """
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"{purpose} needs the package {error.name!r}; pip install 'nasplug[{extra}]'"
            ) from error

"""The command line, ``nasplug``."""

from nasplug.plugins.cli.app import app, main

__all__ = ["app", "main"]

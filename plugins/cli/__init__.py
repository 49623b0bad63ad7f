"""The command line, ``nasplug``."""

"""Where nasplug keeps what it has: tables, trained networks, checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_dir

__all__ = ["data_folder"]


def data_folder() -> Path:
    """Return the data folder: ``NASPLUG_DATA``, or the platform's place for a user's data; it need not exist."""
    return Path(os.environ.get("NASPLUG_DATA") or user_data_dir("nasplug", appauthor=False))

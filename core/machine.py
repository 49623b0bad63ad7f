"""What this machine calls itself."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["memory_gib", "processor"]


def processor() -> str | None:
    """Return what the processor calls itself, None where the system does not tell."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None


def memory_gib() -> float | None:
    """Return the machine's memory, None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
